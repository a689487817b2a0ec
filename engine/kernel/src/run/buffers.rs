//! A fixed number of buffers that are lent out and come back when they are dropped, wherever that is, or are given up.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Close, lock, pages};
use crate::error::{Error, Result};

pub struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    capacity: usize,
    kept: usize,
}

struct State {
    free: Vec<Vec<u8>>,
    /// How many buffers may still be made.
    unmade: usize,
    closed: bool,
}

impl Pool {
    /// A pool of `count` buffers of `capacity` bytes; each is made when it is first needed. One that comes back with more than `kept`
    /// bytes gives the memory of those beyond it back to the system, so that what is seldom needed is seldom there.
    pub fn new(count: usize, capacity: usize, kept: usize) -> Self {
        let state = State { free: Vec::new(), unmade: count, closed: false };
        Self { state: Mutex::new(state), freed: Condvar::new(), capacity, kept }
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Waits for a free buffer. It is empty and has the pool's capacity.
    pub fn take(self: &Arc<Self>) -> Result<Pooled> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Err(Error::Cancelled);
            }
            if let Some(pooled) = self.lend(&mut state) {
                return Ok(pooled);
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Pool {
    /// A buffer if there is a free one now.
    pub fn try_take(self: &Arc<Self>) -> Result<Option<Pooled>> {
        let mut state = lock(&self.state);
        if state.closed { Err(Error::Cancelled) } else { Ok(self.lend(&mut state)) }
    }

    fn lend(self: &Arc<Self>, state: &mut State) -> Option<Pooled> {
        let mut bytes = match state.free.pop() {
            Some(bytes) => bytes,
            None => {
                state.unmade = state.unmade.checked_sub(1)?;
                Vec::new()
            }
        };
        if bytes.capacity() == 0 {
            bytes.reserve_exact(self.capacity);
            pages::prefer_huge(&mut bytes);
        }
        Some(Pooled { bytes, home: Some(Arc::clone(self)) })
    }
}

impl Close for Pool {
    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.free.clear();
        drop(state);
        self.freed.notify_all();
    }
}

/// A buffer of a pool, or one of its own.
pub struct Pooled {
    bytes: Vec<u8>,
    home: Option<Arc<Pool>>,
}

impl Pooled {
    /// A buffer that belongs to no pool: for the one blob that no pooled buffer can take.
    pub fn unpooled(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), home: None }
    }

    /// The pool may make another in its place: nobody knows when this one is dropped. Its memory goes then.
    pub fn give_up(&mut self) {
        let Some(home) = self.home.take() else { return };
        lock(&home.state).unmade += 1;
        home.freed.notify_one();
    }
}

impl Deref for Pooled {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        let mut bytes = std::mem::take(&mut self.bytes);
        let used = bytes.len();
        bytes.clear();
        if used > home.kept {
            pages::give_back(&mut bytes, home.kept);
        }
        let mut state = lock(&home.state);
        if !state.closed {
            state.free.push(bytes);
        }
        drop(state);
        home.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_keep_their_memory() {
        let pool = Arc::new(Pool::new(1, 100, 60));
        let mut one = pool.take().unwrap();
        one.extend_from_slice(&[1; 50]);
        let address = one.as_ptr();
        drop(one);
        let again = pool.take().unwrap();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (address, 0, 100));
        assert!(pool.try_take().unwrap().is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_beyond_the_kept_part_goes() {
        let (count, kept) = (100 << 12, 10 << 12);
        let pool = Arc::new(Pool::new(1, count, kept));
        let mut one = pool.take().unwrap();
        one.resize(count, 1);
        let address = one.as_ptr();
        drop(one);
        let mut again = pool.take().unwrap();
        assert_eq!((again.as_ptr(), again.capacity()), (address, count));
        // SAFETY: it was initialised before, and memory that comes again is zeros.
        unsafe { again.set_len(count) };
        assert!(again[..kept].iter().all(|b| *b == 1));
        assert!(again[kept + 4096..count - 4096].iter().all(|b| *b == 0));
    }

    #[test]
    fn one_that_is_given_up_is_replaced_and_does_not_come_back() {
        let pool = Arc::new(Pool::new(1, 10, 10));
        let mut one = pool.take().unwrap();
        one.extend_from_slice(b"abc");
        one.give_up();
        one.give_up();
        let other = pool.take().unwrap();
        assert!(pool.try_take().unwrap().is_none());
        assert_eq!(**one, b"abc"[..]);
        drop(one);
        assert!(pool.try_take().unwrap().is_none());
        drop(other);
        assert!(pool.try_take().unwrap().is_some());
    }

    #[test]
    fn takes_wait_for_a_free_one_or_the_end() {
        let pool = Arc::new(Pool::new(1, 10, 10));
        let one = pool.take().unwrap();
        std::thread::scope(|s| {
            let waiter = s.spawn(|| pool.take().map(|b| b.capacity()));
            drop(one);
            assert_eq!(waiter.join().unwrap(), Ok(10));
            let held = pool.take().unwrap();
            let waiter = s.spawn(|| pool.take().map(|b| b.capacity()));
            pool.close();
            assert_eq!(waiter.join().unwrap(), Err(Error::Cancelled));
            drop(held);
        });
    }
}
