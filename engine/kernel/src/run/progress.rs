//! How far a run is, for whoever shows it. Written by any thread, read at any time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::lock;

#[derive(Default)]
pub struct Progress {
    pub files_done: AtomicU64,
    pub files_total: AtomicU64,
    pub bytes_done: AtomicU64,
    pub bytes_total: AtomicU64,
    pub errors: AtomicU64,
    steps: AtomicU64,
    pub scan_finished: AtomicBool,
    current: Mutex<Vec<Vec<u8>>>,
}

/// The numbers at one moment.
pub struct Seen {
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub errors: u64,
    pub steps: u64,
    pub scan_finished: bool,
    pub current: Vec<Vec<u8>>,
}

impl Progress {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }

    /// Something was done that no other number shows, such as a comparison within a large file: whoever looks sees that it goes on.
    pub fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    /// A thread starts on this item.
    pub fn enter(&self, path: &[u8]) {
        lock(&self.current).push(path.to_vec());
    }

    /// A thread is done with this item.
    pub fn leave(&self, path: &[u8]) {
        let mut current = lock(&self.current);
        if let Some(place) = current.iter().position(|p| p == path) {
            current.remove(place);
        }
    }

    pub fn seen(&self) -> Seen {
        Seen {
            files_done: self.files_done.load(Relaxed),
            files_total: self.files_total.load(Relaxed),
            bytes_done: self.bytes_done.load(Relaxed),
            bytes_total: self.bytes_total.load(Relaxed),
            errors: self.errors.load(Relaxed),
            steps: self.steps.load(Relaxed),
            scan_finished: self.scan_finished.load(Relaxed),
            current: lock(&self.current).clone(),
        }
    }
}
