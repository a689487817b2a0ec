//! Which blobs are used: one bit for each place that the index has.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::id::Id;
use crate::index::Index;
use crate::pack::BlobKind;

pub struct Used(Vec<AtomicU64>);

impl Used {
    /// For the index as it is now; blobs that are added later count as used.
    pub fn new(index: &Index) -> Self {
        Used((0..index.places().div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Mark a blob by its number; whether it wasn't marked before.
    pub fn mark(&self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        self.0.get(number as usize / 64).is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0)
    }

    fn is_marked(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_none_or(|word| word.load(Relaxed) >> (number % 64) & 1 == 1)
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Relaxed).count_ones())).sum()
    }

    /// The blobs that nothing has marked.
    pub fn unused(&self, index: &Index) -> Vec<(BlobKind, Id)> {
        index.unmarked(|number| self.is_marked(number))
    }
}
