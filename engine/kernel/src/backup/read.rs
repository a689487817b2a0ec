//! Reading files and cutting them into chunks.
//!
//! A reader fills a buffer with chunks of one large or many small files and hands it on as one batch, so that what a batch costs
//! between threads is spread over about a mebibyte at least, or over many files.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, SeekFrom, Stat, fstat};
use rustix::io::{Errno, pread};

use super::Shared;
use super::completion::Assembly;
use crate::chunker::{Chunker, MAX_SIZE, MIN_SIZE};
use crate::error::{Error, Result};
use crate::fs::{directory, metadata, xattrs};
use crate::node::Node;
use crate::run::{Pooled, Progress};

/// A buffer's size: the longest chunk and what may be read beyond its cut.
pub const BUFFER: usize = MAX_SIZE + (1 << 20);
/// What a buffer mostly needs: chunks longer than this are rare.
pub const KEPT: usize = 4 << 20;
/// How much is read at a time.
const STEP: usize = 1 << 20;
/// A batch with so many chunks or bytes is handed on though its buffer has room for another file.
const PIECES: usize = 256;
const ENOUGH: usize = 2 << 20;

/// A file to be read.
pub struct FileJob {
    pub assembly: Arc<Assembly>,
    pub folder: Arc<OwnedFd>,
    pub name: Vec<u8>,
    /// The name in the snapshot: another one only for targets.
    pub as_name: Vec<u8>,
    pub path: Vec<u8>,
    pub previous: Option<Arc<Node>>,
}

/// Chunks in one buffer.
pub struct Batch {
    pub buffer: Pooled,
    pub pieces: Vec<Piece>,
}

pub struct Piece {
    pub start: usize,
    /// Equal to `start` for `MIN_SIZE` zeros, which are nowhere in the buffer.
    pub end: usize,
    pub file: Arc<Assembly>,
    pub place: usize,
}

pub struct Reader<'a> {
    shared: &'a Shared<'a>,
    batch: Option<Batch>,
}

/// Why a file was not read: its own failure, or the run's.
enum Failed {
    File(&'static str, String),
    Run(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

fn at(during: &'static str) -> impl Fn(Errno) -> Failed {
    move |error| Failed::File(during, error.to_string())
}

fn read_at(file: &OwnedFd, buffer: &mut Vec<u8>, limit: usize, offset: u64) -> std::result::Result<usize, Errno> {
    let limit = limit.min(buffer.capacity() - buffer.len());
    let read = loop {
        match pread(file, &mut buffer.spare_capacity_mut()[..limit], offset) {
            Ok((filled, _)) => break filled.len(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    };
    // SAFETY: the system has written the next `read` bytes, which lie within the capacity.
    unsafe { buffer.set_len(buffer.len() + read) };
    Ok(read)
}

impl<'a> Reader<'a> {
    pub fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, batch: None }
    }

    /// Reads files until there are no more.
    pub fn run(mut self) -> Result<()> {
        loop {
            let job = match self.shared.files.pop_within(Duration::ZERO)? {
                Some(job) => job,
                None => {
                    // Nothing waits: whoever waits for what was read shall have it.
                    self.hand_on()?;
                    match self.shared.files.pop()? {
                        Some(job) => job,
                        None => return Ok(()),
                    }
                }
            };
            self.file(Arc::new(job))?;
        }
    }

    pub fn hand_on(&mut self) -> Result<()> {
        match self.batch.take() {
            Some(batch) if !batch.pieces.is_empty() => self.shared.batches.push(batch),
            _ => Ok(()),
        }
    }

    /// Starts a file where the buffer has `room` left; gives the place.
    pub fn begin(&mut self, room: usize) -> Result<usize> {
        let full = |batch: &Batch| {
            let length = batch.buffer.len();
            batch.pieces.len() >= PIECES || length >= ENOUGH || batch.buffer.capacity() - length < room
        };
        if self.batch.as_ref().is_some_and(full) {
            self.hand_on()?;
        }
        Ok(self.batch()?.buffer.len())
    }

    pub fn batch(&mut self) -> Result<&mut Batch> {
        match &mut self.batch {
            Some(batch) => Ok(batch),
            none => Ok(none.insert(Batch { buffer: self.shared.buffers.take()?, pieces: Vec::new() })),
        }
    }

    fn file(&mut self, job: Arc<FileJob>) -> Result<()> {
        let core = self.shared.core;
        core.progress().enter(&job.path);
        let node = match self.read(&job) {
            Ok(node) => Some(Box::new(node)),
            Err(Failed::File(during, message)) => {
                core.item_error(&job.path, during, message, false)?;
                None
            }
            Err(Failed::Run(error)) => return Err(error),
        };
        Progress::add(&core.progress().files_done, 1);
        core.progress().leave(&job.path);
        job.assembly.read_to_end(node);
        Ok(())
    }

    fn read(&mut self, job: &Arc<FileJob>) -> std::result::Result<Node, Failed> {
        let core = self.shared.core;
        let file = directory::open_file(&job.folder, &job.name).map_err(at("open"))?;
        let before = fstat(&file).map_err(at("stat"))?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Err(Failed::File("open", "it is no longer a regular file".to_owned()));
        }
        let mut node = self.shared.describer.node(&job.as_name, &before, job.previous.as_deref());
        for unread in metadata::add_xattrs(&mut node, &xattrs::Of::Open(file.as_fd())) {
            core.item_error(&job.path, "xattr", unread.why, !unread.all)?;
        }
        let length = match self.content(job, &file, &before) {
            Ok(length) => length,
            Err(failed) => {
                self.abandon();
                return Err(failed);
            }
        };
        let after = fstat(&file).map_err(at("stat"))?;
        let same = before.st_size == after.st_size
            && metadata::mtime(&before) == metadata::mtime(&after)
            && metadata::ctime(&before) == metadata::ctime(&after);
        if !same || length < node.size {
            let message = "it changed while it was read: what is stored may never have been its content".to_owned();
            core.item_error(&job.path, "read", message, false)?;
        }
        node.size = length;
        Ok(node)
    }

    /// Drops the bytes of a chunk that was not finished.
    fn abandon(&mut self) {
        if let Some(batch) = &mut self.batch {
            let end = batch.pieces.iter().map(|p| p.end).max().unwrap_or(0);
            batch.buffer.truncate(end);
        }
    }

    /// Cuts a file; gives the number of bytes that it had.
    fn content(&mut self, job: &Arc<FileJob>, file: &OwnedFd, stat: &Stat) -> std::result::Result<u64, Failed> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        #[allow(clippy::unnecessary_cast, reason = "the type of the field differs between architectures")]
        let has_holes = (stat.st_blocks as u64).saturating_mul(512) < size;
        let whole =
            usize::try_from(size).map_or(MAX_SIZE, |s| s.saturating_add(1).min(MAX_SIZE)).max(STEP.min(64 << 10));
        let shared = self.shared;
        // Where the chunk starts in the buffer, how much of it was searched for a cut, and where the next byte is in the file.
        let mut start = self.begin(whole)?;
        let mut seen = 0;
        let mut offset: u64 = 0;
        loop {
            if has_holes {
                let skipped = self.skip_hole(job, file, &mut start, offset, size)?;
                if skipped != offset {
                    offset = skipped;
                    seen = 0;
                }
            }
            let batch = self.batch()?;
            if batch.buffer.len() == batch.buffer.capacity() {
                start = self.move_on(start)?;
            }
            let batch = self.batch()?;
            let read = read_at(file, &mut batch.buffer, STEP, offset).map_err(at("read"))?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            Progress::add(&shared.core.progress().bytes_done, read as u64);
            (start, seen) = batch.cut(&shared.chunker, &job.assembly, start, seen);
            if batch.buffer.capacity() - start < MAX_SIZE && size > offset && start > 0 {
                start = self.move_on(start)?;
            }
            shared.core.alive()?;
        }
        let batch = self.batch()?;
        let end = batch.buffer.len();
        if end > start {
            batch.piece(&job.assembly, start, end);
        }
        Ok(offset)
    }

    /// Goes on with an unfinished chunk in a new buffer; gives its start there.
    pub fn move_on(&mut self, start: usize) -> Result<usize> {
        let mut next = self.shared.buffers.take()?;
        if let Some(batch) = &mut self.batch {
            next.extend_from_slice(&batch.buffer[start..]);
            batch.buffer.truncate(start);
        }
        self.hand_on()?;
        self.batch = Some(Batch { buffer: next, pieces: Vec::new() });
        Ok(0)
    }

    /// Where the file has no data for a while, its chunks are zeros of `MIN_SIZE` bytes and need not be read. Only if what the
    /// buffer has of the chunk is zero, too. Gives the offset to go on from.
    fn skip_hole(
        &mut self,
        job: &Arc<FileJob>,
        file: &OwnedFd,
        start: &mut usize,
        offset: u64,
        size: u64,
    ) -> std::result::Result<u64, Failed> {
        let data = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(Errno::NXIO) => size,
            Err(_) => return Ok(offset),
        };
        let core = self.shared.core;
        let batch = self.batch()?;
        let chunk = offset - (batch.buffer.len() - *start) as u64;
        let count = data.saturating_sub(chunk) / MIN_SIZE as u64;
        if count == 0 || data <= offset || batch.buffer[*start..].iter().any(|b| *b != 0) {
            return Ok(offset);
        }
        batch.buffer.truncate(*start);
        for _ in 0..count {
            if self.batch()?.pieces.len() >= PIECES {
                core.alive()?;
                *start = self.move_on(*start)?;
            }
            self.batch()?.piece(&job.assembly, *start, *start);
        }
        let next = chunk + count * MIN_SIZE as u64;
        Progress::add(&core.progress().bytes_done, next - offset);
        Ok(next)
    }
}

impl Batch {
    pub fn piece(&mut self, file: &Arc<Assembly>, start: usize, end: usize) {
        let place = file.reserve();
        self.pieces.push(Piece { start, end, file: Arc::clone(file), place });
    }

    /// Cuts what the buffer has from `start` on, of which `seen` bytes were searched before; gives both anew.
    pub fn cut(
        &mut self,
        chunker: &Chunker,
        file: &Arc<Assembly>,
        mut start: usize,
        mut seen: usize,
    ) -> (usize, usize) {
        while let Some(length) = chunker.cut(&self.buffer[start..], seen) {
            self.piece(file, start, start + length);
            start += length;
            seen = 0;
        }
        (start, self.buffer.len() - start)
    }
}
