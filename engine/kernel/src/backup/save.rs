//! One blob: deduplicate, compress, seal, verify, pack.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ledger::Ledger;
use super::packer::Packers;
use crate::blob::Opener;
use crate::codec::Compressor;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::seal::{Key, OVERHEAD};

pub struct Saver<'a> {
    pub key: &'a Key,
    pub ledger: &'a Ledger,
    pub packers: &'a Packers<'a>,
    /// None in a repository of version 1.
    pub level: Option<i32>,
    /// Whether blobs of data are compressed; trees are wherever the version allows it.
    pub compress_data: bool,
    pub verify: bool,
    pub dry_run: bool,
    pub counts: Counts,
}

/// What was stored by this run.
#[derive(Default)]
pub struct Counts {
    pub data_blobs: AtomicU64,
    pub tree_blobs: AtomicU64,
    pub added: AtomicU64,
    pub added_packed: AtomicU64,
}

/// What a thread keeps to save blobs without new allocations.
pub struct Scratch {
    compressor: Option<Compressor>,
    compressed: Vec<u8>,
    sealed: Vec<u8>,
    opener: Opener,
}

impl Saver<'_> {
    pub fn scratch(&self) -> Result<Scratch> {
        Ok(Scratch {
            compressor: self.level.map(Compressor::new).transpose()?,
            compressed: Vec::new(),
            sealed: Vec::new(),
            opener: Opener::new()?,
        })
    }

    /// Stores a blob unless it is known.
    pub fn save(&self, scratch: &mut Scratch, kind: BlobKind, id: Id, plain: &[u8]) -> Result<()> {
        if !self.ledger.claim(kind, id) {
            return Ok(());
        }
        let Scratch { compressor, compressed, .. } = scratch;
        let mut packed = false;
        if let Some(compressor) = compressor.as_mut().filter(|_| self.compress_data || kind == BlobKind::Tree)
            && !plain.is_empty()
        {
            compressor.compress_into(plain, compressed)?;
            packed = compressed.len() < plain.len();
        }
        let length = if packed { plain.len() } else { 0 };
        let stored = std::mem::take(compressed);
        let result = self.seal_and_pack(scratch, kind, id, if packed { &stored } else { plain }, length, plain.len());
        scratch.compressed = stored;
        result
    }

    /// Stores a blob that was claimed and compressed already.
    pub fn save_compressed(
        &self,
        scratch: &mut Scratch,
        kind: BlobKind,
        id: Id,
        frame: &[u8],
        plain: u64,
    ) -> Result<()> {
        let length = usize::try_from(plain).map_err(|_| Error::system(format!("blob {id} is too long")))?;
        self.seal_and_pack(scratch, kind, id, frame, length, length)
    }

    fn seal_and_pack(
        &self,
        scratch: &mut Scratch,
        kind: BlobKind,
        id: Id,
        stored: &[u8],
        uncompressed_length: usize,
        plain_length: usize,
    ) -> Result<()> {
        let length = u32::try_from(uncompressed_length)
            .map_err(|_| Error::system(format!("blob {id} is too long for a pack")))?;
        let Counts { data_blobs, tree_blobs, added, added_packed } = &self.counts;
        if kind == BlobKind::Data { data_blobs } else { tree_blobs }.fetch_add(1, Relaxed);
        added.fetch_add(plain_length as u64, Relaxed);
        added_packed.fetch_add((stored.len() + OVERHEAD) as u64, Relaxed);
        if self.dry_run {
            return Ok(());
        }
        scratch.sealed.clear();
        self.key.seal_into(stored, &mut scratch.sealed)?;
        if self.verify {
            scratch.opener.open(self.key, &scratch.sealed, &id, length).map_err(|e| {
                Error::damaged(format!("what was sealed does not open again, so this machine can't be trusted: {e}"))
            })?;
        }
        self.packers.add(kind, id, &scratch.sealed, length)
    }
}
