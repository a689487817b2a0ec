//! The heart of a run: its events, its questions, its threads, and how it ends.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use super::fetch::{Pending, Piece, Tickets};
use super::progress::Progress;
use super::{Close, Event, Outcome, Pool, Queue, lock};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;

/// How far the reader of the events may be behind.
const EVENTS: usize = 64;

pub struct Core {
    events: Queue<Event>,
    tickets: Tickets,
    progress: Progress,
    stopped: AtomicBool,
    ended: AtomicBool,
    failure: Mutex<Option<Error>>,
    others: Mutex<Vec<Weak<dyn Close>>>,
}

/// glibc gives threads heaps of their own, up to eight a processor. The large buffers that a run frees in one of them are of no use to
/// the others, so that a process would hold a third more than it needs; small pieces don't come from a heap often enough to wait.
fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: this sets a number within the allocator, under its own lock. Where it is refused, only memory is lost.
            let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        });
    }
}

/// Starts a job on a thread of its own. Its `Outcome` becomes the `Finished` event, its error or panic the run's failure.
pub fn start(name: &str, job: impl FnOnce(&Core) -> Result<Outcome> + Send + 'static) -> Result<Arc<Core>> {
    share_one_heap();
    let core = Arc::new(Core {
        events: Queue::new(EVENTS),
        tickets: Tickets::default(),
        progress: Progress::default(),
        stopped: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        failure: Mutex::new(None),
        others: Mutex::new(Vec::new()),
    });
    let of_thread = Arc::clone(&core);
    let label = name.to_owned();
    thread::Builder::new()
        .name(format!("lowtide-{name}"))
        .spawn(move || {
            of_thread.guard(&label, || {
                let outcome = job(&of_thread)?;
                of_thread.alive()?;
                of_thread.emit(Event::Finished(outcome))
            });
        })
        .map_err(|e| Error::system(format!("no thread can be started: {e}")))?;
    Ok(core)
}

fn said(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "nothing"
    }
}

impl Core {
    /// Hands an event out; waits while the reader is behind.
    pub fn emit(&self, event: Event) -> Result<()> {
        self.events.push(event)
    }

    /// Asks for a piece of a pack.
    pub fn fetch(&self, kind: BlobKind, pack: Id, offset: u32, length: u32) -> Result<Pending> {
        let (ticket, pending) = self.tickets.open(pack, length)?;
        self.emit(Event::Fetch { ticket, pack, offset, length, kind })?;
        Ok(pending)
    }

    /// One file or folder could not be read or written. Counts unless it is a `notice`.
    pub fn item_error(&self, path: &[u8], during: &'static str, message: String, notice: bool) -> Result<()> {
        if !notice {
            Progress::add(&self.progress.errors, 1);
        }
        self.emit(Event::ItemError { path: path.to_vec(), during, message, notice })
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A number for a question that the job keeps itself, such as an index to be stored.
    pub fn ticket(&self) -> u64 {
        self.tickets.number()
    }

    /// An error once the run was cancelled or has failed: to be asked in long computations.
    pub fn alive(&self) -> Result<()> {
        if self.stopped.load(Ordering::Acquire) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A queue that is closed with the run.
    pub fn queue<T: Send + 'static>(&self, capacity: usize) -> Arc<Queue<T>> {
        let queue = Arc::new(Queue::new(capacity));
        let weak: Weak<Queue<T>> = Arc::downgrade(&queue);
        self.adopt(weak);
        queue
    }

    /// A pool of buffers that is closed with the run; the numbers are those of `Pool::new`.
    pub fn pool(&self, count: usize, capacity: usize, kept: usize) -> Arc<Pool> {
        let pool = Arc::new(Pool::new(count, capacity, kept));
        let weak: Weak<Pool> = Arc::downgrade(&pool);
        self.adopt(weak);
        pool
    }

    /// Closes `other` when the run ends; at once if it has.
    pub fn adopt(&self, other: Weak<dyn Close>) {
        let mut others = lock(&self.others);
        others.retain(|o| o.strong_count() > 0);
        others.push(Weak::clone(&other));
        drop(others);
        if self.alive().is_err()
            && let Some(other) = other.upgrade()
        {
            other.close();
        }
    }

    /// Ends the run with this failure, unless it has ended already.
    pub fn fail(&self, error: Error) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            *failure = Some(error);
        }
        drop(failure);
        self.stopped.store(true, Ordering::Release);
        self.events.close();
        self.tickets.close();
        let others = std::mem::take(&mut *lock(&self.others));
        others.iter().filter_map(Weak::upgrade).for_each(|o| o.close());
    }

    /// Stops all threads soon. Idempotent.
    pub fn cancel(&self) {
        self.fail(Error::Cancelled);
    }

    /// Runs `work` so that its error or panic ends the run.
    fn guard(&self, name: &str, work: impl FnOnce() -> Result<()>) {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(panic) => self.fail(died(name, &*panic)),
        }
    }

    /// Runs `work` with threads that may borrow; returns when all of them have ended. Any thread's error ends the run.
    pub fn scope<'env, T>(&'env self, work: impl for<'scope> FnOnce(Threads<'scope, 'env>) -> Result<T>) -> Result<T> {
        let result = thread::scope(|scope| {
            let threads = Threads { scope, core: self };
            let result = catch_unwind(AssertUnwindSafe(|| work(threads)));
            // The threads may wait for what `work` would have done: they must be let go before the scope waits for them.
            match &result {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => self.fail(error.clone()),
                Err(panic) => self.fail(died("of the job", &**panic)),
            }
            result
        });
        let value = result.unwrap_or(Err(Error::Cancelled))?;
        self.alive()?;
        Ok(value)
    }

    /// The next event, or None after `timeout`. The run's failure once there is one; an error after `Finished`.
    pub fn next(&self, timeout: Duration) -> Result<Option<Event>> {
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::invalid("the run is over: there are no more events"));
        }
        match self.events.pop_within(timeout) {
            Ok(Some(Event::Finished(outcome))) => {
                self.ended.store(true, Ordering::Release);
                Ok(Some(Event::Finished(outcome)))
            }
            Ok(event) => Ok(event),
            Err(_) => Err(lock(&self.failure).clone().unwrap_or(Error::Cancelled)),
        }
    }

    pub fn provide(&self, ticket: u64, piece: Piece) -> Result<()> {
        self.tickets.provide(ticket, piece)
    }

    pub fn refuse(&self, ticket: u64, why: String) -> Result<()> {
        self.tickets.refuse(ticket, why)
    }
}

fn died(name: &str, panic: &(dyn Any + Send)) -> Error {
    Error::system(format!("the kernel's thread {name} died, which is a bug; it said: {}", said(panic)))
}

/// Starts threads within `Core::scope`.
#[derive(Clone, Copy)]
pub struct Threads<'scope, 'env: 'scope> {
    scope: &'scope thread::Scope<'scope, 'env>,
    core: &'env Core,
}

impl<'scope> Threads<'scope, '_> {
    pub fn spawn(&self, name: &'static str, work: impl FnOnce() -> Result<()> + Send + 'scope) -> Result<()> {
        self.spawn_deep(name, 2 << 20, work)
    }

    /// As `spawn`, with a stack of so many bytes, of which only those that are used cost memory.
    pub fn spawn_deep(
        &self,
        name: &'static str,
        stack: usize,
        work: impl FnOnce() -> Result<()> + Send + 'scope,
    ) -> Result<()> {
        let core = self.core;
        thread::Builder::new()
            .name(format!("lowtide-{name}"))
            .stack_size(stack)
            .spawn_scoped(self.scope, move || core.guard(name, work))
            .map(|_| ())
            .map_err(|e| Error::system(format!("no thread can be started: {e}")))
    }
}

#[cfg(test)]
mod tests;
