//! What a run tells whoever drives it.

use super::Pooled;
use crate::id::Id;
use crate::pack::BlobKind;

pub enum Event {
    /// A finished pack, to be stored.
    PackReady { pack: Id, kind: BlobKind, data: Pooled },
    /// Plaintext JSON of an index file whose packs are all stored.
    IndexReady { ticket: u64, packs: Vec<Id>, json: Vec<u8> },
    /// A piece of a pack is needed. Emitted by `Core::fetch` only.
    Fetch { ticket: u64, pack: Id, offset: u32, length: u32, kind: BlobKind },
    /// One file or folder could not be read or written; `notice` where that is no failure.
    ItemError { path: Vec<u8>, during: &'static str, message: String, notice: bool },
    /// What was done with one item.
    ItemDone { path: Vec<u8>, action: &'static str, size: u64 },
    /// Damage that a check found.
    Problem { kind: &'static str, message: String },
    /// The run came to its end. Emitted by `start` only.
    Finished(Outcome),
}

/// What a job gives back: the root tree of a backup, and the numbers of its summary by name.
#[derive(Debug, Default)]
pub struct Outcome {
    pub root: Option<Id>,
    pub summary: Vec<(&'static str, u64)>,
}
