//! One file whose content is read from a descriptor to its end: what a command prints, or what a pipe brings.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, SeekFrom, fstat, seek};
use rustix::io::{Errno, read};
use rustix::process::{getgid, getuid};

use super::Shared;
use super::completion::Assembly;
use super::parent::{self, Cursor};
use super::read::Reader;
use super::walk::Step;
use crate::chunker::MAX_SIZE;
use crate::error::{Error, Result};
use crate::node::{Node, NodeKind, mode};
use crate::pattern::clean;
use crate::run::Progress;
use crate::time::Time;
use crate::trees::TreeLoader;

/// How often a reader that waits for bytes looks whether the run still goes on.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What becomes a file of the snapshot in the place of files and folders.
pub struct Stream {
    /// Where the file stands in the snapshot, below its root.
    path: Vec<u8>,
    source: OwnedFd,
    /// The time that the file and the folders above it have.
    time: Time,
}

impl Stream {
    pub fn new(path: &[u8], source: OwnedFd, time: Time) -> Result<Self> {
        let path = clean(&[b"/", path].concat());
        if path == b"/" || path.contains(&0) {
            return Err(Error::invalid("the name of the file for the stream is empty or has a NUL byte in it"));
        }
        Ok(Self { path, source, time })
    }

    /// As restic has it: the owner is whoever runs the backup.
    fn node(&self, name: &[u8], kind: NodeKind, mode: u32) -> Node {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        let content = (kind == NodeKind::File).then(Vec::new);
        let (mtime, atime, ctime) = (self.time, self.time, self.time);
        Node { name: name.to_vec(), kind, mode, mtime, atime, ctime, uid, gid, content, ..Node::default() }
    }

    /// How much will come, where that is known: all of a block device.
    fn size(&self) -> Option<u64> {
        let stat = fstat(&self.source).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return None;
        }
        let here = seek(&self.source, SeekFrom::Current(0)).ok()?;
        let end = seek(&self.source, SeekFrom::End(0)).ok()?;
        seek(&self.source, SeekFrom::Start(here)).ok()?;
        Some(end - here)
    }

    /// The walk and the reading of a backup that consists of this one file.
    pub(super) fn run(&self, shared: &Shared<'_>) -> Result<()> {
        let progress = shared.core.progress();
        let mut trees = TreeLoader::new(shared.core, shared.key, shared.index)?;
        let mut components = self.path[1..].split(|b| *b == b'/').peekable();
        let mut above = shared.options.parent;
        let mut inside = Vec::new();
        let mut folders = 0;
        while let Some(name) = components.next() {
            let tree = parent::load(shared.core, &mut trees, above, &inside)?;
            let previous = Cursor::new(tree.as_deref()).find(name);
            inside.extend_from_slice(b"/");
            inside.extend_from_slice(name);
            above = parent::subtree(previous.as_ref());
            let previous = previous.map(Arc::new);
            if components.peek().is_some() {
                let node = Box::new(self.node(name, NodeKind::Dir, mode::DIR | 0o755));
                shared.steps.push(vec![Step::Enter { node, previous, path: inside.clone() }])?;
                folders += 1;
                continue;
            }
            progress.files_total.store(1, Relaxed);
            if let Some(size) = self.size() {
                progress.bytes_total.store(size, Relaxed);
                progress.scan_finished.store(true, Relaxed);
            }
            progress.enter(&inside);
            shared.steps.push(vec![Step::File { number: 0, previous, path: inside.clone() }])?;
            let assembly = Arc::new(Assembly::new(0, Arc::clone(&shared.completions)));
            let mut node = self.node(name, NodeKind::File, 0o644);
            node.size = self.content(shared, &assembly)?;
            progress.leave(&inside);
            Progress::add(&progress.files_done, 1);
            assembly.read_to_end(Some(Box::new(node)));
        }
        progress.scan_finished.store(true, Relaxed);
        shared.steps.push((0..folders).map(|_| Step::Leave).collect())?;
        shared.files.finish();
        shared.steps.finish();
        Ok(())
    }

    /// Cuts all that comes; gives its number of bytes.
    fn content(&self, shared: &Shared<'_>, file: &Arc<Assembly>) -> Result<u64> {
        let mut reader = Reader::new(shared);
        let (mut start, mut seen, mut length) = (0, 0, 0u64);
        loop {
            let batch = reader.batch()?;
            let read = self.read(shared, &mut batch.buffer)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            Progress::add(&shared.core.progress().bytes_done, read as u64);
            (start, seen) = batch.cut(&shared.chunker, file, start, seen);
            if batch.buffer.capacity() - start < MAX_SIZE {
                start = reader.move_on(start)?;
            }
        }
        let batch = reader.batch()?;
        let end = batch.buffer.len();
        if end > start {
            batch.piece(file, start, end);
        }
        shared.core.progress().bytes_total.store(length, Relaxed);
        reader.hand_on()?;
        Ok(length)
    }

    /// Appends what is there to the buffer, which has room; waits for it, and ends when the run does. 0 at the stream's end.
    fn read(&self, shared: &Shared<'_>, buffer: &mut Vec<u8>) -> Result<usize> {
        loop {
            shared.core.alive()?;
            let mut waiting = [PollFd::new(&self.source, PollFlags::IN)];
            match poll(&mut waiting, Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(self.unread(error)),
            }
            match read(&self.source, spare_capacity(buffer)) {
                Ok(read) => return Ok(read),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(self.unread(error)),
            }
        }
    }

    fn unread(&self, error: Errno) -> Error {
        Error::system(format!("the stream for {} can't be read: {error}", self.path.escape_ascii()))
    }
}
