//! What backup, restore and check have in common: a job with threads of its own that gives events and asks for pieces of packs.
//!
//! A job is a function `FnOnce(&Core) -> Result<Outcome>` that `start` runs on a thread. Inside it:
//! - `Core::emit` hands an event out and blocks while the reader is behind;
//! - `Core::fetch` asks for a piece of a pack and gives a `Pending` to wait on; several may be open at once;
//! - `Core::scope` starts threads that may borrow from the job and that all have ended when it returns;
//! - `Core::queue` and `Core::pool` make queues and buffer pools that are closed when the run ends.
//!
//! Every wait returns `Error::Cancelled` once the run was cancelled or any thread of it failed or panicked, so a job only has to
//! pass errors on with `?`. The first failure is the one that the reader of the events sees.

mod buffers;
mod core;
mod event;
mod fetch;
pub mod pages;
mod progress;
mod queue;
mod source;

pub use buffers::{Pool, Pooled};
pub use core::{Core, Threads, start};
pub use event::{Event, Outcome};
pub use fetch::{Pending, Piece};
pub use progress::{Progress, Seen};
pub use queue::Queue;
pub use source::{Requested, Source};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What holds waiting threads and can let them go.
pub trait Close: Send + Sync {
    /// Wakes every waiting thread, now and from now on, with `Error::Cancelled`. Idempotent.
    fn close(&self);
}

/// A thread that panicked closes the whole run, so what it left behind a lock is never used, only dropped.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
