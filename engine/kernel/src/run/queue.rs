//! A bounded queue between threads that can end in two ways: finished by its producers, or closed with the run.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Close, lock};
use crate::error::{Error, Result};

pub struct Queue<T> {
    state: Mutex<State<T>>,
    /// Something was taken out, or the queue ended.
    space: Condvar,
    /// Something was put in, or the queue ended.
    filled: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    finished: bool,
    closed: bool,
}

impl<T> Queue<T> {
    pub fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), finished: false, closed: false };
        Self { state: Mutex::new(state), space: Condvar::new(), filled: Condvar::new(), capacity: capacity.max(1) }
    }

    /// Waits for space and puts the item in.
    pub fn push(&self, item: T) -> Result<()> {
        let mut state = lock(&self.state);
        while !state.closed && state.items.len() >= self.capacity {
            state = self.space.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Error::Cancelled);
        }
        state.items.push_back(item);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for an item; None once the queue is finished and empty.
    pub fn pop(&self) -> Result<Option<T>> {
        self.pop_until(None)
    }

    /// As `pop`, but gives up after `timeout`: then None, too.
    pub fn pop_within(&self, timeout: Duration) -> Result<Option<T>> {
        self.pop_until(Instant::now().checked_add(timeout))
    }

    fn pop_until(&self, deadline: Option<Instant>) -> Result<Option<T>> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Err(Error::Cancelled);
            }
            if let Some(item) = state.items.pop_front() {
                drop(state);
                self.space.notify_one();
                return Ok(Some(item));
            }
            if state.finished {
                return Ok(None);
            }
            state = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Ok(None),
                Some(left) => self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Nothing more comes: readers get what is left, then None.
    pub fn finish(&self) {
        lock(&self.state).finished = true;
        self.filled.notify_all();
    }
}

impl<T: Send> Close for Queue<T> {
    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.space.notify_all();
        self.filled.notify_all();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_in_order_and_ends() {
        let queue = Queue::new(10);
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        queue.finish();
        assert_eq!(queue.pop().unwrap(), Some(1));
        assert_eq!(queue.pop().unwrap(), Some(2));
        assert_eq!(queue.pop().unwrap(), None);
        assert_eq!(queue.pop_within(Duration::from_secs(100)).unwrap(), None);
    }

    #[test]
    fn closing_wakes_both_ends() {
        let queue = Queue::new(1);
        queue.push(1).unwrap();
        let empty = Queue::<u8>::new(1);
        std::thread::scope(|s| {
            let pusher = s.spawn(|| queue.push(2));
            let popper = s.spawn(|| empty.pop());
            queue.close();
            empty.close();
            assert_eq!(pusher.join().unwrap(), Err(Error::Cancelled));
            assert_eq!(popper.join().unwrap(), Err(Error::Cancelled));
        });
        assert_eq!(queue.pop(), Err(Error::Cancelled));
        assert_eq!(empty.push(1), Err(Error::Cancelled));
    }

    #[test]
    fn a_full_queue_blocks_until_there_is_space() {
        let queue = Queue::new(2);
        std::thread::scope(|s| {
            s.spawn(|| (0..1000).for_each(|i| queue.push(i).unwrap()));
            for i in 0..1000 {
                assert_eq!(queue.pop().unwrap(), Some(i));
            }
        });
    }

    #[test]
    fn waiting_for_an_item_ends_after_the_timeout() {
        let queue = Queue::<u8>::new(1);
        assert_eq!(queue.pop_within(Duration::from_millis(1)).unwrap(), None);
    }
}
