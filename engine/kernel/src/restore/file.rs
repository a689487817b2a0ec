//! One file while it is written, by any of the threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Advice};
use rustix::io::{Errno, retry_on_intr};

use super::Session;
use super::batch::FileJob;
use super::content::{self, spans};
use super::metadata::Target;
use super::place::{self, Filling, Identity};
use crate::error::Result;
use crate::node::NodeKind;
use crate::run::lock;

pub struct File {
    pub job: FileJob,
    pub size: u64,
    /// It was there before: what is told about it.
    updates: bool,
    /// Nothing of what was there is kept, so that what isn't written reads as zeros.
    new: bool,
    /// How many blobs are still to be written.
    remaining: AtomicUsize,
    failed: AtomicBool,
    handle: Mutex<Handle>,
}

pub enum Handle {
    /// Still to be made.
    Unmade,
    Open(Arc<OwnedFd>),
    /// There, and to be opened again only if it is still this one.
    Closed(Identity),
    /// Complete.
    Gone,
}

/// A file that is open for writing, and whether this call opened it.
pub struct Opened {
    pub fd: Arc<OwnedFd>,
    pub now: bool,
}

impl File {
    /// `handle` is `Closed` for a file that is changed in place, else `Unmade`.
    pub fn new(job: FileJob, size: u64, updates: bool, handle: Handle, blobs: usize) -> Self {
        File {
            job,
            size,
            updates,
            new: matches!(handle, Handle::Unmade),
            remaining: AtomicUsize::new(blobs),
            failed: AtomicBool::new(false),
            handle: Mutex::new(handle),
        }
    }

    pub fn filling(&self, session: &Session<'_>) -> Filling {
        Filling { sparse: session.options.sparse, new: self.new }
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The open file; made, with what is in its way removed, where it has to be.
    pub fn open(&self, session: &Session<'_>, folder: BorrowedFd<'_>) -> std::result::Result<Opened, Errno> {
        let mut handle = lock(&self.handle);
        let fd = match &*handle {
            Handle::Open(fd) => return Ok(Opened { fd: Arc::clone(fd), now: false }),
            Handle::Closed(identity) => {
                let names = if self.new { None } else { self.job.names };
                place::open_in_place(folder, &self.job.name, *identity, names)?
            }
            Handle::Gone => return Err(Errno::STALE),
            Handle::Unmade => {
                let fd = place::create(folder, &self.job.name, session.full_folder())?;
                if self.job.content.len() > 1 {
                    place::set_size(&fd, self.size, self.filling(session))?;
                }
                fd
            }
        };
        if self.job.content.len() > 1 && matches!(*handle, Handle::Unmade) {
            session.core.progress().enter(&self.job.path);
        }
        let fd = Arc::new(fd);
        *handle = Handle::Open(Arc::clone(&fd));
        Ok(Opened { fd, now: true })
    }

    /// Let go of the descriptor; `open` finds the same file again.
    pub fn close(&self) -> std::result::Result<(), Errno> {
        let mut handle = lock(&self.handle);
        if let Handle::Open(fd) = &*handle {
            *handle = Handle::Closed(place::identity(fd)?);
        }
        Ok(())
    }

    /// Put one blob in its place; the last one completes the file. What fails is told, and counts for the file only.
    pub fn write(&self, session: &Session<'_>, fd: &OwnedFd, data: &[u8], offset: u64) -> Result<()> {
        if self.has_failed() {
            return Ok(());
        }
        let written = place::write(fd, data, offset, self.filling(session)).and_then(|hole_at_end| {
            let short = hole_at_end && self.job.content.len() == 1 && session.options.device.is_none();
            if short { fs::ftruncate(fd, self.size) } else { Ok(()) }
        });
        if let Err(error) = written {
            return self.fail(session, "write", error.to_string());
        }
        session.wrote(data.len() as u64);
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            return self.complete(session, fd);
        }
        Ok(())
    }

    /// Tell that the file can't be restored, once. It keeps what it has, with the times of now and the mode 0600.
    pub fn fail(&self, session: &Session<'_>, during: &'static str, message: String) -> Result<()> {
        if self.failed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        session.core.progress().leave(&self.job.path);
        session.lost(&self.job, during, message)
    }

    /// All data is there: check it where that was asked for, then put the metadata on it.
    pub fn complete(&self, session: &Session<'_>, fd: &OwnedFd) -> Result<()> {
        *lock(&self.handle) = Handle::Gone;
        if self.has_failed() {
            return Ok(());
        }
        let device = session.options.device.as_ref();
        if let Some(Err(message)) = device.map(|device| device.finish(session, self.size)) {
            session.core.alive()?;
            return self.fail(session, "write", message);
        }
        if session.options.verify
            && let Err(message) = self.verify(session, fd)
        {
            session.core.alive()?;
            return self.fail(session, "verify", message);
        }
        session.core.progress().leave(&self.job.path);
        if device.is_some() {
            return session.restored(&self.job, self.size, self.updates);
        }
        let shortfalls = self.job.metadata.apply(Target::Handle(fd.as_fd()), &NodeKind::File, &session.owners);
        session.shortfalls(&self.job.path, shortfalls)?;
        session.restored(&self.job, self.size, self.updates)
    }

    /// Read from the disk what was written, and compare it with the blobs' ids.
    fn verify(&self, session: &Session<'_>, fd: &OwnedFd) -> std::result::Result<(), String> {
        let told = |error: Errno| error.to_string();
        retry_on_intr(|| fs::fdatasync(fd)).map_err(told)?;
        // Without this the page cache would answer. Where it isn't possible, it does.
        let _ = fs::fadvise(fd, 0, None, Advice::DontNeed);
        let device = session.options.device.as_ref();
        let size = match device {
            Some(device) => device.size,
            None => fs::fstat(fd).map_err(told)?.st_size as u64,
        };
        if size != self.size && device.is_none() {
            return Err(format!("it has {size} bytes instead of {}", self.size));
        }
        let mut buffer = Vec::new();
        for span in spans(session.index, &self.job.content).flatten() {
            session.core.alive().map_err(|error| error.to_string())?;
            session.core.progress().step();
            if !content::holds(fd, &span, size, &mut buffer).map_err(told)? {
                return Err(format!("what was written at {} is not what is read there", span.offset));
            }
        }
        device.map_or(Ok(()), |device| device.verify_rest(session, self.size))
    }
}
