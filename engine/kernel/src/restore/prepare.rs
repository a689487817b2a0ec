//! The first look at a file: whether it is to be written at all, and which of its blobs are missing.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs;
use rustix::io::Errno;

use super::batch::{FileJob, Folders};
use super::content::{self, Span, spans};
use super::device::{self, Device};
use super::file::{File, Handle};
use super::holes::ZERO_CHUNK;
use super::metadata::{Target, open_place};
use super::place::{self, Identity};
use super::walk::modified;
use super::{Overwrite, Session};
use crate::error::Result;
use crate::node::NodeKind;

/// What is left to do for a file. `Nothing`: it was skipped, is complete, or has failed and that was told.
pub enum Prepared {
    Nothing,
    Fetch(Box<File>, Vec<Span>),
}

pub struct Preparer<'s, 'a> {
    session: &'s Session<'a>,
    folders: Folders,
    buffer: Vec<u8>,
}

impl<'s, 'a> Preparer<'s, 'a> {
    pub fn new(session: &'s Session<'a>) -> Self {
        Preparer { session, folders: Folders::default(), buffer: Vec::new() }
    }

    pub fn prepare(&mut self, job: FileJob) -> Result<Prepared> {
        let session = self.session;
        let mut wanted = Vec::with_capacity(job.content.len());
        for span in spans(session.index, &job.content) {
            match span {
                Ok(span) => wanted.push(span),
                Err(blob) => return nothing(session.lost(&job, "read", format!("blob {blob} is not in the index"))),
            }
        }
        let size = wanted.last().map_or(0, |last| last.offset.saturating_add(last.length));
        if size != job.size {
            let message = format!("the snapshot says {} bytes, but its blobs hold {size}", job.size);
            session.notice(&job.path, "restore", message)?;
        }
        if let Some(device) = &session.options.device {
            return self.onto_device(device, job, wanted, size);
        }
        if session.options.dry_run && job.folder.fresh {
            return nothing(session.restored(&job, size, false));
        }
        let folder = match self.folders.open(session, &job.folder) {
            Ok(folder) => folder,
            Err(error) => return nothing(session.lost(&job, "write", format!("its folder cannot be opened: {error}"))),
        };
        let there = match if job.folder.fresh { Ok(None) } else { place::look(folder, &job.name) } {
            Ok(there) => there,
            Err(error) => return nothing(session.lost(&job, "write", error.to_string())),
        };
        let mut handle = Handle::Unmade;
        if let Some(stat) = &there {
            if !session.options.overwrite.replaces(job.metadata.mtime(), modified(stat)) {
                return nothing(session.skipped(&job, size, "skipped"));
            }
            if place::is_own(stat, job.names) {
                if is_unchanged(session, &job, stat, size) && put_metadata(session, &job, folder, stat.into())? {
                    return nothing(session.skipped(&job, size, "unchanged"));
                }
                // What may not be changed in place is replaced, unless there is nothing to change.
                let there = stat.st_size as u64;
                if let Ok(fd) = place::open_in_place(folder, &job.name, stat.into(), job.names) {
                    wanted = missing(session, &fd, wanted, there, &mut self.buffer)?;
                    if wanted.is_empty() && there == size && put_metadata(session, &job, folder, stat.into())? {
                        return nothing(session.skipped(&job, size, "unchanged"));
                    }
                    handle = Handle::Closed(stat.into());
                } else if there == size
                    && let Ok(fd) = place::open_to_compare(folder, &job.name, stat.into(), job.names)
                    && holds_all(session, &fd, &wanted, size, &mut self.buffer)?
                    && put_metadata(session, &job, folder, stat.into())?
                {
                    return nothing(session.skipped(&job, size, "unchanged"));
                }
            }
        }
        if session.options.dry_run {
            return nothing(session.restored(&job, size, there.is_some()));
        }
        start(session, job, size, there.is_some(), handle, wanted, folder)
    }

    fn onto_device(&mut self, device: &Device, job: FileJob, wanted: Vec<Span>, size: u64) -> Result<Prepared> {
        let session = self.session;
        if size > device.size {
            let message = format!("the device has {} bytes, and {size} are to be written", device.size);
            return nothing(session.lost(&job, "write", message));
        }
        if session.options.dry_run {
            return nothing(session.restored(&job, size, true));
        }
        let wanted = missing(session, device.fd(), wanted, device.size, &mut self.buffer)?;
        device::start(session, device, job, size, wanted)
    }
}

fn nothing(result: Result<()>) -> Result<Prepared> {
    result.map(|()| Prepared::Nothing)
}

/// The blobs that the file doesn't hold; what can't be read is written.
fn missing(
    session: &Session<'_>,
    fd: &OwnedFd,
    spans: Vec<Span>,
    size: u64,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Span>> {
    let mut missing = Vec::new();
    for span in spans {
        session.core.alive()?;
        session.core.progress().step();
        if !content::holds(fd, &span, size, buffer).unwrap_or(false) {
            missing.push(span);
        }
    }
    Ok(missing)
}

/// Whether the file holds every blob; the first that it doesn't ends the comparison.
fn holds_all(session: &Session<'_>, fd: &OwnedFd, spans: &[Span], size: u64, buffer: &mut Vec<u8>) -> Result<bool> {
    for span in spans {
        session.core.alive()?;
        session.core.progress().step();
        if !content::holds(fd, span, size, buffer).unwrap_or(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_unchanged(session: &Session<'_>, job: &FileJob, stat: &fs::Stat, size: u64) -> bool {
    session.options.overwrite == Overwrite::IfChanged
        && stat.st_size as u64 == size
        && modified(stat).same_instant(job.metadata.mtime())
}

/// Put the metadata on a file whose content stays; false where another file has come into its place.
fn put_metadata(session: &Session<'_>, job: &FileJob, folder: BorrowedFd<'_>, expected: Identity) -> Result<bool> {
    if session.options.dry_run {
        return Ok(true);
    }
    let open = || -> std::result::Result<_, Errno> {
        let fd = open_place(folder, &job.name)?;
        let stat = fs::fstat(&fd)?;
        Ok((Identity::from(&stat) == expected && place::is_own(&stat, job.names)).then_some(fd))
    };
    let Ok(Some(fd)) = open() else { return Ok(false) };
    let shortfalls = job.metadata.apply(Target::Place(fd.as_fd()), &NodeKind::File, &session.owners);
    session.shortfalls(&job.path, shortfalls)?;
    Ok(true)
}

/// Set a file up for its missing blobs; zeros are put in at once.
fn start(
    session: &Session<'_>,
    job: FileJob,
    size: u64,
    updates: bool,
    handle: Handle,
    mut wanted: Vec<Span>,
    folder: BorrowedFd<'_>,
) -> Result<Prepared> {
    let kept = size.saturating_sub(wanted.iter().map(|span| span.length).sum::<u64>());
    let in_place = matches!(handle, Handle::Closed(_));
    // A large sparse file has millions of zero chunks: they are taken out in place and not gathered.
    let is_zeros = |span: &Span| span.blob.0 == ZERO_CHUNK;
    let zeros = wanted.iter().filter(|span| is_zeros(span)).count();
    let fetched = wanted.len() - zeros;
    let file = Box::new(File::new(job, size, updates, handle, fetched));
    session.kept(kept);
    // A file whose blobs all are to come is made when the first comes: it need not be opened twice.
    if !in_place && zeros == 0 && fetched > 0 {
        return Ok(Prepared::Fetch(file, wanted));
    }
    let filling = file.filling(session);
    let begun = file.open(session, folder).and_then(|opened| {
        place::set_size(&opened.fd, size, filling)?;
        Ok(opened.fd)
    });
    let fd = match begun {
        Ok(fd) => fd,
        Err(error) => return nothing(file.fail(session, "write", error.to_string())),
    };
    for span in wanted.iter().filter(|span| is_zeros(span)) {
        session.core.alive()?;
        session.core.progress().step();
        if let Err(error) = place::write_zeros(&fd, span.offset, span.length, filling) {
            return nothing(file.fail(session, "write", error.to_string()));
        }
    }
    session.wrote(wanted.iter().filter(|span| is_zeros(span)).map(|span| span.length).sum());
    if fetched == 0 {
        return nothing(file.complete(session, &fd));
    }
    wanted.retain(|span| !is_zeros(span));
    wanted.shrink_to_fit();
    match file.close() {
        Ok(()) => Ok(Prepared::Fetch(file, wanted)),
        Err(error) => nothing(file.fail(session, "write", error.to_string())),
    }
}
