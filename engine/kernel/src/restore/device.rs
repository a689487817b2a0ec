//! One file of the snapshot onto a block device. Its size can't change, it has no metadata of the file's, and what was on it
//! before is only gone where something was written: zeros are, too.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fd::OwnedFd;
use rustix::fs::{self, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use super::Session;
use super::batch::{Batch, FileJob};
use super::content::Span;
use super::file::{File, Handle, Opened};
use super::holes::ZERO_CHUNK;
use super::metadata::Metadata;
use super::place::{self, Filling};
use super::prepare::Prepared;
use super::walk::{Folder, find_folder};
use crate::error::{Error, Result};
use crate::node::NodeKind;
use crate::run::{Progress, Queue};
use crate::tree::TreeReader;
use crate::trees::TreeLoader;

/// How much is looked at and made zero at a time.
const STEP: u64 = 64 << 20;

pub struct Device {
    fd: Arc<OwnedFd>,
    pub size: u64,
}

impl Device {
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let size = fs::seek(&fd, SeekFrom::End(0))
            .map_err(|error| Error::system(format!("the size of the device can't be found out: {error}")))?;
        Ok(Device { fd: Arc::new(fd), size })
    }

    pub fn opened(&self) -> Opened {
        Opened { fd: Arc::clone(&self.fd), now: false }
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Make what lies behind the file zeros, if wanted, and bring all to the device.
    pub(super) fn finish(&self, session: &Session<'_>, end: u64) -> std::result::Result<(), String> {
        if session.options.delete {
            self.rest(session, end, |offset, length| {
                place::write_zeros(&self.fd, offset, length, Filling { sparse: true, new: false })
            })?;
        }
        retry_on_intr(|| fs::fdatasync(&self.fd)).map_err(|error| error.to_string())
    }

    /// Whether what lies behind the file reads as zeros, where it was made so.
    pub(super) fn verify_rest(&self, session: &Session<'_>, end: u64) -> std::result::Result<(), String> {
        if !session.options.delete {
            return Ok(());
        }
        let mut buffer = vec![0; 1 << 20];
        self.rest(session, end, |offset, length| {
            let mut done = 0;
            while done < length {
                let part = (length - done).min(buffer.len() as u64) as usize;
                let read = place::read_exact(&self.fd, &mut buffer[..part], offset + done)?;
                if !read || buffer[..part].iter().any(|byte| *byte != 0) {
                    return Err(Errno::IO);
                }
                done += part as u64;
            }
            Ok(())
        })
        .map_err(|error| format!("what lies behind the file does not read as zeros: {error}"))
    }

    fn rest(
        &self,
        session: &Session<'_>,
        end: u64,
        mut each: impl FnMut(u64, u64) -> std::result::Result<(), Errno>,
    ) -> std::result::Result<(), String> {
        let mut offset = end;
        while offset < self.size {
            session.core.alive().map_err(|error| error.to_string())?;
            session.core.progress().step();
            let length = (self.size - offset).min(STEP);
            each(offset, length).map_err(|error| error.to_string())?;
            offset += length;
        }
        Ok(())
    }
}

/// In the place of a walk: the one file, as a batch.
pub fn hand_out(session: &Session<'_>, batches: &Queue<Batch>) -> Result<()> {
    let path = &session.options.subfolder;
    let shown = path.escape_ascii();
    let (above, name) = path.split_at(path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1));
    let mut loader = TreeLoader::new(session.core, session.key, session.index)?;
    let (tree, _) = find_folder(session, &mut loader, above)?;
    let bytes = loader.load(&tree)?;
    let mut found = None;
    for entry in TreeReader::new(&bytes)?.tolerant() {
        let node = entry?.node;
        if node.name == name {
            found = Some(node);
            break;
        }
    }
    let mut node = found
        .filter(|node| node.kind == NodeKind::File)
        .ok_or_else(|| Error::invalid(format!("the snapshot has no file {shown}")))?;
    let content = node.content.take().ok_or_else(|| Error::damaged(format!("the file {shown} has no content")))?;
    let progress = session.core.progress();
    Progress::add(&progress.files_total, 1);
    Progress::add(&progress.bytes_total, node.size);
    progress.scan_finished.store(true, Relaxed);
    let mut batch = Batch::default();
    batch.add(FileJob {
        folder: Arc::new(Folder { path: Vec::new(), fresh: false }),
        path: Vec::new(),
        name: Vec::new(),
        metadata: Metadata::of(&mut node),
        content,
        size: node.size,
        linked: false,
        names: None,
    });
    batches.push(batch)
}

/// Set the device up for the blobs that it doesn't hold; zeros are put in at once.
pub fn start(session: &Session<'_>, device: &Device, job: FileJob, size: u64, wanted: Vec<Span>) -> Result<Prepared> {
    let kept = size.saturating_sub(wanted.iter().map(|span| span.length).sum::<u64>());
    let (zeros, fetched): (Vec<Span>, Vec<Span>) = wanted.into_iter().partition(|span| span.blob.0 == ZERO_CHUNK);
    let file = Box::new(File::new(job, size, true, Handle::Open(Arc::clone(&device.fd)), fetched.len()));
    session.kept(kept);
    let filling = file.filling(session);
    for span in &zeros {
        session.core.alive()?;
        session.core.progress().step();
        if let Err(error) = place::write_zeros(&device.fd, span.offset, span.length, filling) {
            file.fail(session, "write", error.to_string())?;
            return Ok(Prepared::Nothing);
        }
        session.wrote(span.length);
    }
    if fetched.is_empty() {
        file.complete(session, &device.fd)?;
        return Ok(Prepared::Nothing);
    }
    Ok(Prepared::Fetch(file, fetched))
}
