//! The data of files, a batch at a time: looked at, planned, read from packs in few pieces, written by several threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

use super::file::File;
use super::linked::Names;
use super::metadata::Metadata;
use super::plan::{Piece, Reading, Want, plan};
use super::prepare::{Prepared, Preparer};
use super::walk::Folder;
use super::{Session, add};
use crate::blob::{Buffers, Opener, Sealed, groups};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::run::{Pending, Progress, Queue, lock};

/// Where a batch is full: about 3 MiB of lists, of which there are three: one grows, one waits, one is worked on.
const MOST_FILES: usize = 4096;
const MOST_BLOBS: usize = 32_768;

/// How much may be asked for and not be written yet, and how many files of several blobs are kept open.
const ASKED: u64 = 32 << 20;
const OPEN_FILES: usize = 200;

/// A file to be restored, as the snapshot has it.
pub struct FileJob {
    pub folder: Arc<Folder>,
    pub path: Vec<u8>,
    pub name: Vec<u8>,
    pub metadata: Metadata,
    pub content: Vec<Id>,
    /// What the snapshot says.
    pub size: u64,
    /// It has other names.
    pub linked: bool,
    /// Those that the file in its place has, where it has several and they were counted.
    pub names: Option<Names>,
}

#[derive(Default)]
pub struct Batch {
    files: Vec<FileJob>,
    blobs: usize,
}

impl Batch {
    /// Whether the batch is full now.
    pub fn add(&mut self, job: FileJob) -> bool {
        self.blobs += job.content.len();
        self.files.push(job);
        self.files.len() >= MOST_FILES || self.blobs >= MOST_BLOBS
    }
}

/// The folder that one thread used last, open.
#[derive(Default)]
pub struct Folders(Option<(Arc<Folder>, OwnedFd)>);

impl Folders {
    pub fn open(&mut self, session: &Session<'_>, folder: &Arc<Folder>) -> std::result::Result<BorrowedFd<'_>, Errno> {
        if !self.0.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, folder)) {
            self.0 = None;
            let fd = session.root()?.folder(&folder.path)?;
            self.0 = Some((Arc::clone(folder), fd));
        }
        self.0.as_ref().map(|(_, fd)| fd.as_fd()).ok_or(Errno::BADF)
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// How many readings may wait for a writer: each of the writers holds another one, and one more is asked for before it finds a place.
fn waiting(longest: u64, writers: usize) -> usize {
    ((ASKED / longest) as usize).saturating_sub(writers + 1).clamp(1, 16)
}

/// Restore all batches until the walk ends.
pub fn restore_all(session: &Session<'_>, batches: Arc<Queue<Batch>>) -> Result<()> {
    while let Some(batch) = batches.pop()? {
        let (files, wants) = prepare_all(session, batch)?;
        let (wants, readings) = plan(wants, |blob| session.index.locate(BlobKind::Data, blob).first().copied());
        let writers = Writers { session, files, wants, readings, open: Mutex::default() };
        writers.write_all()?;
    }
    Ok(())
}

fn prepare_all(session: &Session<'_>, batch: Batch) -> Result<(Vec<File>, Vec<Want>)> {
    let jobs: Vec<Mutex<Option<FileJob>>> = batch.files.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let next = AtomicUsize::new(0);
    let prepared = Mutex::new(Vec::new());
    let work = || {
        let mut preparer = Preparer::new(session);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(number).and_then(|job| lock(job).take()) else { return Ok(()) };
            session.core.alive()?;
            if let Prepared::Fetch(file, spans) = preparer.prepare(job)? {
                lock(&prepared).push((number, file, spans));
            }
        }
    };
    session.core.scope(|scope| {
        for _ in 1..threads().min(jobs.len().div_ceil(32)) {
            scope.spawn("restore-look", work)?;
        }
        work()
    })?;
    let mut prepared = std::mem::take(&mut *lock(&prepared));
    prepared.sort_by_key(|(number, ..)| *number);
    let (mut files, mut wants) = (Vec::with_capacity(prepared.len()), Vec::new());
    for (_, file, spans) in prepared {
        let number = files.len() as u32;
        wants.extend(spans.into_iter().map(|span| Want { blob: span.blob, file: number, offset: span.offset }));
        files.push(*file);
    }
    Ok((files, wants))
}

struct Writers<'s, 'a> {
    session: &'s Session<'a>,
    files: Vec<File>,
    wants: Vec<Want>,
    readings: Vec<Reading>,
    /// Files of several blobs that are open, the one opened last at the end.
    open: Mutex<VecDeque<u32>>,
}

impl Writers<'_, '_> {
    /// Ask for all readings, a bounded number ahead of the threads that write.
    fn write_all(&self) -> Result<()> {
        if self.readings.is_empty() {
            return Ok(());
        }
        let core = self.session.core;
        let longest = self.readings.iter().map(|reading| reading.length).max().unwrap_or(1).max(1);
        let writers = threads().min(self.readings.len());
        let asked: Arc<Queue<(usize, Pending)>> = core.queue(waiting(longest, writers));
        core.scope(|scope| {
            for _ in 0..writers {
                scope.spawn("restore-write", || self.work(&asked))?;
            }
            for (number, reading) in self.readings.iter().enumerate() {
                let pending = core.fetch(BlobKind::Data, reading.pack, reading.offset as u32, reading.length as u32)?;
                asked.push((number, pending))?;
            }
            asked.finish();
            Ok(())
        })
    }

    fn work(&self, asked: &Queue<(usize, Pending)>) -> Result<()> {
        let mut opener = Opener::new()?;
        let mut folders = Folders::default();
        let mut buffers = Buffers::default();
        while let Some((number, pending)) = asked.pop()? {
            let reading = &self.readings[number];
            let data = match pending.wait() {
                Ok(data) => Some(data),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                // Each of its blobs is tried alone.
                Err(_) => None,
            };
            let size = |piece: &Piece| piece.at.length.max(piece.at.uncompressed_length) as usize;
            for group in groups(&reading.pieces, size) {
                self.session.core.alive()?;
                let sealed = group.iter().map(|piece| Sealed {
                    bytes: data.as_ref().and_then(|data| data.as_ref().as_ref().get(reading.span(piece))),
                    id: piece.blob,
                    uncompressed_length: piece.at.uncompressed_length,
                });
                let sealed: Vec<Sealed> = sealed.collect();
                let (opened, _) = opener.open_each(self.session.key, &sealed, &mut buffers, None);
                for (piece, opened) in group.iter().zip(opened) {
                    if let Ok(plain) = opened {
                        self.write(piece, plain, &mut folders)?;
                        continue;
                    }
                    match self.recover(piece, &mut opener) {
                        Ok(plain) => self.write(piece, &plain, &mut folders)?,
                        Err(Error::Cancelled) => return Err(Error::Cancelled),
                        Err(error) => self.give_up(piece, &error)?,
                    }
                }
                buffers.trim();
            }
        }
        Ok(())
    }

    /// Fetch a blob alone, from every place where the index has it.
    fn recover(&self, piece: &Piece, opener: &mut Opener) -> Result<Vec<u8>> {
        let session = self.session;
        let mut failure = Error::damaged(format!("blob {} is not in the index", piece.blob));
        for at in session.index.locate(BlobKind::Data, &piece.blob) {
            let fetched = session.core.fetch(BlobKind::Data, at.pack, at.offset, at.length)?.wait();
            let opened = fetched
                .and_then(|data| opener.open_owned(session.key, (*data).as_ref(), &piece.blob, at.uncompressed_length));
            match opened {
                Ok(plain) => return Ok(plain),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn give_up(&self, piece: &Piece, error: &Error) -> Result<()> {
        for want in &self.wants[piece.wants.clone()] {
            self.files[want.file as usize].fail(self.session, "read", error.to_string())?;
        }
        Ok(())
    }

    fn write(&self, piece: &Piece, plain: &[u8], folders: &mut Folders) -> Result<()> {
        for want in &self.wants[piece.wants.clone()] {
            let file = &self.files[want.file as usize];
            if file.has_failed() {
                continue;
            }
            let opened = match &self.session.options.device {
                Some(device) => Ok(device.opened()),
                None => folders.open(self.session, &file.job.folder).and_then(|fd| file.open(self.session, fd)),
            };
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    file.fail(self.session, "write", format!("it cannot be opened: {error}"))?;
                    continue;
                }
            };
            file.write(self.session, &opened.fd, plain, want.offset)?;
            if opened.now && file.job.content.len() > 1 {
                drop(opened);
                self.keep_open(want.file)?;
            }
        }
        Ok(())
    }

    /// Remember that a file is open, and close the one that was opened first where there are too many.
    fn keep_open(&self, file: u32) -> Result<()> {
        let mut open = lock(&self.open);
        open.push_back(file);
        let oldest = if open.len() > OPEN_FILES { open.pop_front() } else { None };
        drop(open);
        let Some(oldest) = oldest else { return Ok(()) };
        let oldest = &self.files[oldest as usize];
        match oldest.close() {
            Ok(()) => Ok(()),
            Err(error) => oldest.fail(self.session, "write", error.to_string()),
        }
    }
}

impl Session<'_> {
    /// A file can't be restored.
    pub fn lost(&self, job: &FileJob, during: &'static str, message: String) -> Result<()> {
        if job.linked {
            lock(&self.failed).insert(job.path.clone());
        }
        self.grave(&job.path, during, message)
    }

    /// A file's data and metadata are there (or would be, in a dry run).
    pub fn restored(&self, job: &FileJob, size: u64, updates: bool) -> Result<()> {
        add(&self.tally.files_restored, 1);
        Progress::add(&self.core.progress().files_done, 1);
        if self.options.dry_run {
            self.wrote(size);
        }
        self.done(&job.path, if updates { "updated" } else { "restored" }, size)
    }

    /// A file's content stays as it is.
    pub fn skipped(&self, job: &FileJob, size: u64, action: &'static str) -> Result<()> {
        add(&self.tally.files_skipped, 1);
        Progress::add(&self.core.progress().files_done, 1);
        self.kept(size);
        self.done(&job.path, action, size)
    }

    pub fn wrote(&self, bytes: u64) {
        add(&self.tally.bytes_restored, bytes);
        Progress::add(&self.core.progress().bytes_done, bytes);
    }

    pub fn kept(&self, bytes: u64) {
        add(&self.tally.bytes_skipped, bytes);
        Progress::add(&self.core.progress().bytes_done, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_that_wait_and_those_that_are_written_keep_to_the_limit() {
        assert_eq!(waiting(8 << 20, 2), 1);
        assert_eq!(waiting(4 << 20, 2), 5);
        assert_eq!(waiting(1000, 2), 16);
        // Less than one can't wait, however many writers there are and however long a blob is.
        assert_eq!(waiting(8 << 20, 8), 1);
        assert_eq!(waiting(4 << 30, 2), 1);
    }
}
