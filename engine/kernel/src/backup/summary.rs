//! What a backup did, in restic's numbers.

use std::sync::atomic::Ordering::Relaxed;

use super::save::Counts;
use crate::node::{Node, NodeKind};

/// How a node compares with the parent's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    New,
    Changed,
    Unmodified,
}

impl What {
    pub fn of(node: &Node, previous: Option<&Node>) -> Self {
        match previous {
            None => Self::New,
            Some(before) if before == node => Self::Unmodified,
            Some(_) => Self::Changed,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unmodified => "unmodified",
        }
    }
}

#[derive(Default)]
pub struct Summary {
    files: [u64; 3],
    dirs: [u64; 3],
    bytes: u64,
}

impl Summary {
    pub fn count(&mut self, node: &Node, what: What) {
        match node.kind {
            NodeKind::File => {
                self.files[what as usize] += 1;
                self.bytes += node.size;
            }
            NodeKind::Dir => self.dirs[what as usize] += 1,
            _ => {}
        }
    }

    pub fn numbers(&self, counts: &Counts, errors: u64) -> Vec<(&'static str, u64)> {
        vec![
            ("files_new", self.files[0]),
            ("files_changed", self.files[1]),
            ("files_unmodified", self.files[2]),
            ("dirs_new", self.dirs[0]),
            ("dirs_changed", self.dirs[1]),
            ("dirs_unmodified", self.dirs[2]),
            ("data_blobs", counts.data_blobs.load(Relaxed)),
            ("tree_blobs", counts.tree_blobs.load(Relaxed)),
            ("data_added", counts.added.load(Relaxed)),
            ("data_added_packed", counts.added_packed.load(Relaxed)),
            ("total_files_processed", self.files.iter().sum()),
            ("total_bytes_processed", self.bytes),
            ("errors", errors),
        ]
    }
}
