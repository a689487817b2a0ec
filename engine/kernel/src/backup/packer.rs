//! Sealed blobs into packs.
//!
//! Two packs of data are open at a time and each blob goes into one at random, so that a pack's sizes do not give away where a
//! known file was cut (restic-format 1.5).

use std::sync::{Arc, Mutex};

use super::ledger::Ledger;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::PackContents;
use crate::pack::BlobKind;
use crate::pack::header::{self, Entry};
use crate::run::{Core, Event, Pool, Pooled, lock};
use crate::seal::Key;
use crate::sha::{Begun, sha256_along};

/// A pack that takes no more blobs: header and all, but not hashed yet, or not to its end. Several messages are hashed faster than one,
/// so whoever filled it hashes it along with others, or alone.
pub struct Full {
    kind: BlobKind,
    entries: Vec<Entry>,
    bytes: Pooled,
    begun: Begun,
}

impl Full {
    /// What is to be hashed, and from where.
    pub fn message(&self) -> (&[u8], Begun) {
        (&self.bytes, self.begun)
    }

    /// As `message`, to be hashed in part.
    pub fn part(&mut self) -> (&[u8], &mut Begun) {
        (&self.bytes, &mut self.begun)
    }
}

/// What a buffer has beyond a pack's target size.
const ROOM: usize = 1 << 20;
const TREE_TARGET: usize = 4 << 20;
/// How many packs of data are open at a time.
const OPEN: usize = 2;

pub struct Packers<'a> {
    core: &'a Core,
    key: &'a Key,
    ledger: &'a Ledger,
    data: Sort,
    tree: Sort,
}

/// The open packs of one kind.
struct Sort {
    kind: BlobKind,
    target: usize,
    pool: Arc<Pool>,
    open: Vec<Mutex<Option<Open>>>,
}

struct Open {
    bytes: Pooled,
    entries: Vec<Entry>,
}

impl Open {
    /// Whether so many more blobs, of so many bytes together, have room, and their header is not too long to be read.
    fn fits(&self, length: usize, blobs: usize) -> bool {
        let all = self.entries.len() + blobs;
        let end = header::EMPTY_SIZE + all * header::LONGEST_ENTRY;
        self.bytes.len() + length + end <= self.bytes.capacity() && !header::is_full(all.saturating_sub(1))
    }

    fn add(&mut self, kind: BlobKind, id: Id, sealed: &[u8], uncompressed_length: u32) -> Result<()> {
        let number =
            |n: usize| u32::try_from(n).map_err(|_| Error::system(format!("blob {id} is too long for a pack")));
        let (offset, length) = (number(self.bytes.len())?, number(sealed.len())?);
        self.bytes.extend_from_slice(sealed);
        self.entries.push(Entry { kind, id, offset, length, uncompressed_length });
        Ok(())
    }

    /// Moves what another pack holds behind what this one holds.
    fn absorb(&mut self, other: &Open) -> Result<()> {
        other.entries.iter().try_for_each(|e| {
            let sealed = &other.bytes[e.offset as usize..e.offset as usize + e.length as usize];
            self.add(e.kind, e.id, sealed, e.uncompressed_length)
        })
    }
}

impl Sort {
    fn new(core: &Core, kind: BlobKind, target: usize, buffers: usize, open: usize) -> Self {
        let open = (0..open).map(|_| Mutex::new(None)).collect();
        // A pack is filled slowly and needed for a moment: what is kept would mostly be there for nothing.
        Self { kind, target, pool: core.pool(buffers, target + ROOM, 0), open }
    }

    fn slot(&self) -> Result<&Mutex<Option<Open>>> {
        if self.open.len() == 1 {
            return Ok(&self.open[0]);
        }
        let random = getrandom::u32().map_err(|e| Error::system(format!("the system gives no random numbers: {e}")))?;
        Ok(&self.open[random as usize % self.open.len()])
    }
}

impl<'a> Packers<'a> {
    /// Packs of data are closed at `target` bytes. Each of the two that are open has a buffer, and each of those that are uploaded.
    pub fn new(core: &'a Core, key: &'a Key, ledger: &'a Ledger, target: usize, uploads: usize) -> Self {
        let data = Sort::new(core, BlobKind::Data, target, OPEN + uploads, OPEN);
        let tree = Sort::new(core, BlobKind::Tree, TREE_TARGET.min(target), 3, 1);
        Self { core, key, ledger, data, tree }
    }

    /// Puts a sealed blob into a pack. What that fills is added to `full`, for the caller to hash and hand out; it is handed out here
    /// where no buffer is free before it is. Waits for a free buffer.
    pub fn add(
        &self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        uncompressed_length: u32,
        full: &mut Vec<Full>,
    ) -> Result<()> {
        let sort = if kind == BlobKind::Data { &self.data } else { &self.tree };
        let alone = sealed.len() + header::EMPTY_SIZE + header::LONGEST_ENTRY;
        if alone > sort.pool.capacity() {
            let mut own = Open { bytes: Pooled::unpooled(alone), entries: Vec::new() };
            own.add(kind, id, sealed, uncompressed_length)?;
            full.push(self.close(kind, own)?);
            return Ok(());
        }
        let slot = sort.slot()?;
        let mut free = None;
        loop {
            let mut open = lock(slot);
            match open.as_mut() {
                Some(pack) if pack.fits(sealed.len(), 1) => {
                    pack.add(kind, id, sealed, uncompressed_length)?;
                    let filled = if pack.bytes.len() >= sort.target { open.take() } else { None };
                    drop(open);
                    return filled.map_or(Ok(()), |filled| self.close(kind, filled).map(|filled| full.push(filled)));
                }
                Some(_) => {
                    let filled = open.take();
                    drop(open);
                    filled.map_or(Ok(()), |filled| self.close(kind, filled).map(|filled| full.push(filled)))?;
                }
                None => match free.take() {
                    Some(bytes) => *open = Some(Open { bytes, entries: Vec::new() }),
                    None => {
                        // Whoever waits for a buffer holds neither a lock nor a full pack, so that buffers come back.
                        drop(open);
                        free = sort.pool.try_take()?;
                        if free.is_none() {
                            self.hand_out_all(full)?;
                            free = Some(sort.pool.take()?);
                        }
                    }
                },
            }
        }
    }

    fn close(&self, kind: BlobKind, mut filled: Open) -> Result<Full> {
        header::write(self.key, &filled.entries, &mut filled.bytes)?;
        Ok(Full { kind, entries: filled.entries, bytes: filled.bytes, begun: Begun::default() })
    }

    /// Hands out a pack; `pack` is the hash of its bytes.
    pub fn hand_out(&self, full: Full, pack: Id) -> Result<()> {
        self.ledger.saving(PackContents { pack, entries: full.entries });
        self.core.emit(Event::PackReady { pack, kind: full.kind, data: full.bytes })
    }

    /// Hashes full packs to their end and hands them out.
    pub fn hand_out_all(&self, full: &mut Vec<Full>) -> Result<()> {
        let messages: Vec<_> = full.iter().map(Full::message).collect();
        let (packs, _) = sha256_along(&messages, None);
        full.drain(..).zip(packs).try_for_each(|(full, pack)| self.hand_out(full, pack))
    }

    /// Hands out what is left, in as few packs as it fits into. Not while another thread adds.
    pub fn flush(&self) -> Result<()> {
        let mut full = Vec::new();
        for sort in [&self.data, &self.tree] {
            let mut last: Option<Open> = None;
            for slot in &sort.open {
                let Some(open) = lock(slot).take() else { continue };
                match &mut last {
                    Some(into) if into.fits(open.bytes.len(), open.entries.len()) => {
                        into.absorb(&open)?;
                    }
                    _ => {
                        if let Some(other) = last.replace(open) {
                            full.push(self.close(sort.kind, other)?);
                        }
                    }
                }
            }
            last.map_or(Ok(()), |last| self.close(sort.kind, last).map(|last| full.push(last)))?;
        }
        self.hand_out_all(&mut full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_takes_no_more_blobs_than_its_header_can_name() {
        let entry = |_| Entry { kind: BlobKind::Data, id: Id([0; 32]), offset: 0, length: 33, uncompressed_length: 1 };
        let half = Open { bytes: Pooled::unpooled(64 << 20), entries: (0..300_000).map(entry).collect() };
        assert!(half.fits(33, 1));
        assert!(half.fits(3 << 20, 109_199));
        assert!(!half.fits(3 << 20, 109_200));
    }
}
