//! One blob: deduplicate, compress, seal, verify, pack.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ledger::Ledger;
use super::packer::{Full, Packers};
use crate::blob::{Opener, check};
use crate::chunker::MAX_SIZE;
use crate::codec::{Compressor, bound};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::run::pages;
use crate::seal::{BEFORE, Key, OVERHEAD};
use crate::sha::sha256;

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

/// What a thread keeps to save blobs without new allocations: memory that was never touched costs a fault for each page.
pub struct Scratch {
    compressor: Option<Compressor>,
    opener: Opener,
    unverified: Vec<Sealed>,
    /// What the unverified blobs are, and what came out when they were opened again.
    sealed: Memory,
    opened: Memory,
    /// Packs that this thread filled and nobody hashed yet.
    pub full: Vec<Full>,
}

/// So much of sealed blobs waits to be verified, but for a single one that is longer.
const WAITING: usize = 4 << 20;
/// What a thread's memory is for: any chunk alone, compressed or not.
const LONGEST: usize = MAX_SIZE + (64 << 10);

impl Scratch {
    /// What must be hashed before the blobs that were sealed may be packed.
    pub fn opened(&self) -> impl Iterator<Item = &[u8]> {
        self.unverified.iter().filter_map(|blob| match &blob.opened {
            Opened::Content(range) => Some(&self.opened.bytes[range.clone()]),
            Opened::Not | Opened::Hashed(_) => None,
        })
    }

    /// Whether a blob of that length can be sealed before those that wait are packed.
    pub fn has_room(&self, length: usize) -> bool {
        self.unverified.is_empty() || self.sealed.used.max(self.opened.used) + length + OVERHEAD <= WAITING
    }
}

/// Memory that is taken from the start on and given back as a whole.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    used: usize,
}

impl Memory {
    /// The next `length` bytes, whatever they hold; they are not taken yet.
    fn next(&mut self, length: usize) -> &mut [u8] {
        let end = self.used + length;
        if end > self.bytes.len() {
            let size = end.max(LONGEST);
            // Zeros that take nothing's place come without being touched.
            if self.used == 0 {
                self.bytes = vec![0; size]
            } else {
                self.bytes.resize(size, 0)
            }
            pages::prefer_huge(&mut self.bytes);
        }
        &mut self.bytes[self.used..end]
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        self.next(length);
        self.used += length;
        self.used - length..self.used
    }

    fn clear(&mut self) {
        if self.bytes.len() > LONGEST {
            self.bytes = Vec::new();
        } else if self.used > WAITING {
            pages::give_back(&mut self.bytes, WAITING);
        }
        self.used = 0;
    }
}

/// A sealed blob on its way into a pack: where its bytes are in the thread's memory.
struct Sealed {
    kind: BlobKind,
    id: Id,
    uncompressed_length: u32,
    sealed: Range<usize>,
    opened: Opened,
}

/// What came out when a blob was opened again.
enum Opened {
    /// Nothing is verified.
    Not,
    /// To be hashed.
    Content(Range<usize>),
    /// Hashed on the way: it is too long to be held.
    Hashed(Id),
}

fn distrust(error: Error) -> Error {
    match error {
        Error::Damaged(why) => Error::Damaged(format!(
            "what was sealed does not open again, so this machine's memory or processor can't be trusted: {why}"
        )),
        other => other,
    }
}

impl Saver<'_> {
    pub fn scratch(&self) -> Result<Scratch> {
        Ok(Scratch {
            compressor: self.level.map(Compressor::new).transpose()?,
            opener: Opener::new()?,
            unverified: Vec::new(),
            sealed: Memory::default(),
            opened: Memory::default(),
            full: Vec::new(),
        })
    }

    /// Stores a blob unless it is known.
    pub fn save(&self, scratch: &mut Scratch, kind: BlobKind, id: Id, plain: &[u8]) -> Result<()> {
        self.seal(scratch, kind, id, plain)?;
        self.verify_and_pack(scratch)
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
        if self.counted(kind, length, frame.len()) {
            let sealed = scratch.sealed.take(frame.len() + OVERHEAD);
            self.key.seal_to(frame, &mut scratch.sealed.bytes[sealed.clone()])?;
            self.open_again(scratch, kind, id, sealed, length, true)?;
        }
        self.verify_and_pack(scratch)
    }

    /// Claims, compresses, seals and opens again; nothing for a blob that is known, and in a dry run.
    pub fn seal(&self, scratch: &mut Scratch, kind: BlobKind, id: Id, plain: &[u8]) -> Result<()> {
        if !self.ledger.claim(kind, id) {
            return Ok(());
        }
        let frame = match &mut scratch.compressor {
            Some(compressor) if !plain.is_empty() && (self.compress_data || kind == BlobKind::Tree) => {
                // Where it is to be sealed.
                let place = scratch.sealed.next(BEFORE + bound(plain.len()));
                Some(compressor.compress_to(plain, &mut place[BEFORE..])?).filter(|length| *length < plain.len())
            }
            _ => None,
        };
        let length = frame.unwrap_or(plain.len());
        if !self.counted(kind, plain.len(), length) {
            return Ok(());
        }
        let sealed = scratch.sealed.take(length + OVERHEAD);
        let bytes = &mut scratch.sealed.bytes[sealed.clone()];
        match frame {
            Some(_) => self.key.seal_in_place(bytes)?,
            None => self.key.seal_to(plain, bytes)?,
        }
        self.open_again(scratch, kind, id, sealed, plain.len(), frame.is_some())
    }

    /// Counts a blob; whether it is to be stored.
    fn counted(&self, kind: BlobKind, plain: usize, stored: usize) -> bool {
        let Counts { data_blobs, tree_blobs, added, added_packed } = &self.counts;
        if kind == BlobKind::Data { data_blobs } else { tree_blobs }.fetch_add(1, Relaxed);
        added.fetch_add(plain as u64, Relaxed);
        added_packed.fetch_add((stored + OVERHEAD) as u64, Relaxed);
        !self.dry_run
    }

    /// Opens what was sealed, to be verified and packed with others.
    fn open_again(
        &self,
        scratch: &mut Scratch,
        kind: BlobKind,
        id: Id,
        sealed: Range<usize>,
        plain_length: usize,
        compressed: bool,
    ) -> Result<()> {
        let uncompressed_length = u32::try_from(if compressed { plain_length } else { 0 })
            .map_err(|_| Error::system(format!("blob {id} is too long for a pack")))?;
        let bytes = &scratch.sealed.bytes[sealed.clone()];
        let opened = if !self.verify {
            Opened::Not
        } else if uncompressed_length as usize > MAX_SIZE {
            Opened::Hashed(scratch.opener.hash(self.key, bytes, &id, uncompressed_length).map_err(distrust)?)
        } else {
            let opened = scratch.opened.take(plain_length);
            let content = &mut scratch.opened.bytes[opened.clone()];
            scratch.opener.decode_to(self.key, bytes, &id, compressed, content).map_err(distrust)?;
            Opened::Content(opened)
        };
        scratch.unverified.push(Sealed { kind, id, uncompressed_length, sealed, opened });
        Ok(())
    }

    fn verify_and_pack(&self, scratch: &mut Scratch) -> Result<()> {
        let found: Vec<Id> = scratch.opened().map(sha256).collect();
        self.pack(scratch, found)?;
        self.packers.hand_out_all(&mut scratch.full)
    }

    /// Packs what was sealed; `found` are the hashes of what it opened to, which must be the blobs' ids. A pack that this fills waits in
    /// the scratch to be hashed and handed out.
    pub fn pack(&self, scratch: &mut Scratch, found: impl IntoIterator<Item = Id>) -> Result<()> {
        let mut found = found.into_iter();
        for blob in scratch.unverified.drain(..) {
            if self.verify {
                let opened = match blob.opened {
                    Opened::Not => None,
                    Opened::Content(_) => found.next(),
                    Opened::Hashed(id) => Some(id),
                };
                let opened = opened.ok_or_else(|| Error::system("a sealed blob was not verified, which is a bug"))?;
                check(&blob.id, &opened).map_err(distrust)?;
            }
            let bytes = &scratch.sealed.bytes[blob.sealed];
            self.packers.add(blob.kind, blob.id, bytes, blob.uncompressed_length, &mut scratch.full)?;
        }
        scratch.sealed.clear();
        scratch.opened.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::index::Index;
    use crate::run::{Event, Outcome, start};

    #[test]
    fn what_does_not_open_to_its_id_is_never_packed() {
        let core = start("test", |core| {
            let key = Key::new(&[1; 32], &[2; 16], &[3; 16])?;
            let ledger = Ledger::new(Arc::new(Index::new()), 32, Duration::from_secs(100));
            let packers = Packers::new(core, &key, &ledger, 4 << 20, 2);
            let saver = Saver {
                key: &key,
                ledger: &ledger,
                packers: &packers,
                level: Some(3),
                compress_data: true,
                verify: true,
                dry_run: false,
                counts: Counts::default(),
            };
            let mut scratch = saver.scratch()?;
            let wrong = sha256(b"other text");
            saver.save(&mut scratch, BlobKind::Data, wrong, b"some text some text some text")?;
            Ok(Outcome::default())
        })
        .unwrap();
        let error = loop {
            match core.next(Duration::from_secs(60)) {
                Ok(event) => assert!(!matches!(event, Some(Event::PackReady { .. } | Event::Finished(_)))),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Damaged(why) if why.contains("can't be trusted")));
    }
}
