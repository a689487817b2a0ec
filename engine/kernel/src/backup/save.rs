//! One blob: deduplicate, compress, seal, verify, pack.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ledger::Ledger;
use super::packer::{Full, Packers};
use crate::blob::{self, Opener};
use crate::chunker::MAX_SIZE;
use crate::codec::Compressor;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::seal::{Key, OVERHEAD};
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

/// What a thread keeps to save blobs without new allocations.
pub struct Scratch {
    compressor: Option<Compressor>,
    compressed: Vec<u8>,
    opener: Opener,
    spare: Vec<[Vec<u8>; 2]>,
    /// The bytes that `spare` holds.
    spared: usize,
    /// Packs that this thread filled and nobody hashed yet.
    pub full: Vec<Full>,
}

/// So many bytes of buffers are kept to be used again.
const SPARED: usize = 4 << 20;
/// Longer buffers are needed too seldom to be kept.
const LONG: usize = 4 << 20;

/// A sealed blob on its way into a pack.
pub struct Sealed {
    kind: BlobKind,
    id: Id,
    uncompressed_length: u32,
    bytes: Vec<u8>,
    opened: Opened,
}

/// What came out when a blob was opened again.
enum Opened {
    /// Nothing is verified.
    Not,
    /// To be hashed.
    Content(Vec<u8>),
    /// Hashed on the way: it is too long to be held.
    Hashed(Id),
}

impl Sealed {
    /// What must be hashed before the blob may be packed.
    pub fn opened(&self) -> Option<&[u8]> {
        match &self.opened {
            Opened::Content(content) => Some(content),
            Opened::Not | Opened::Hashed(_) => None,
        }
    }
}

fn held(buffers: &[Vec<u8>; 2]) -> usize {
    buffers.iter().map(Vec::capacity).sum()
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
            compressed: Vec::new(),
            opener: Opener::new()?,
            spare: Vec::new(),
            spared: 0,
            full: Vec::new(),
        })
    }

    /// Stores a blob unless it is known.
    pub fn save(&self, scratch: &mut Scratch, kind: BlobKind, id: Id, plain: &[u8]) -> Result<()> {
        match self.seal(scratch, kind, id, plain)? {
            Some(sealed) => self.hash_and_pack(scratch, sealed),
            None => Ok(()),
        }
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
        match self.seal_stored(scratch, kind, id, frame, length, length)? {
            Some(sealed) => self.hash_and_pack(scratch, sealed),
            None => Ok(()),
        }
    }

    /// Claims, compresses, seals and opens again; None for a blob that is known, and in a dry run.
    pub fn seal(&self, scratch: &mut Scratch, kind: BlobKind, id: Id, plain: &[u8]) -> Result<Option<Sealed>> {
        if !self.ledger.claim(kind, id) {
            return Ok(None);
        }
        let mut compressed = std::mem::take(&mut scratch.compressed);
        let mut packed = false;
        if let Some(compressor) = scratch.compressor.as_mut().filter(|_| self.compress_data || kind == BlobKind::Tree)
            && !plain.is_empty()
        {
            compressor.compress_into(plain, &mut compressed)?;
            packed = compressed.len() < plain.len();
        }
        let (stored, length) = if packed { (&compressed[..], plain.len()) } else { (plain, 0) };
        let sealed = self.seal_stored(scratch, kind, id, stored, length, plain.len());
        scratch.compressed = if compressed.capacity() > LONG { Vec::new() } else { compressed };
        sealed
    }

    fn seal_stored(
        &self,
        scratch: &mut Scratch,
        kind: BlobKind,
        id: Id,
        stored: &[u8],
        uncompressed_length: usize,
        plain_length: usize,
    ) -> Result<Option<Sealed>> {
        let uncompressed_length = u32::try_from(uncompressed_length)
            .map_err(|_| Error::system(format!("blob {id} is too long for a pack")))?;
        let Counts { data_blobs, tree_blobs, added, added_packed } = &self.counts;
        if kind == BlobKind::Data { data_blobs } else { tree_blobs }.fetch_add(1, Relaxed);
        added.fetch_add(plain_length as u64, Relaxed);
        added_packed.fetch_add((stored.len() + OVERHEAD) as u64, Relaxed);
        if self.dry_run {
            return Ok(None);
        }
        let buffers = scratch.spare.pop().unwrap_or_default();
        scratch.spared -= held(&buffers);
        let [mut bytes, mut content] = buffers;
        self.key.seal_to(stored, &mut bytes)?;
        let opened = if !self.verify {
            Opened::Not
        } else if uncompressed_length as usize > MAX_SIZE {
            Opened::Hashed(scratch.opener.hash(self.key, &bytes, &id, uncompressed_length).map_err(distrust)?)
        } else {
            scratch.opener.decode(self.key, &bytes, &id, uncompressed_length, &mut content).map_err(distrust)?;
            Opened::Content(content)
        };
        Ok(Some(Sealed { kind, id, uncompressed_length, bytes, opened }))
    }

    fn hash_and_pack(&self, scratch: &mut Scratch, sealed: Sealed) -> Result<()> {
        let found = sealed.opened().map(sha256);
        self.pack(scratch, sealed, found)?;
        self.packers.hand_out_all(&mut scratch.full)
    }

    /// Packs a sealed blob; `found` is the hash of what it opened to, which must be its id. A pack that this fills waits in the
    /// scratch to be hashed and handed out.
    pub fn pack(&self, scratch: &mut Scratch, sealed: Sealed, found: Option<Id>) -> Result<()> {
        if self.verify {
            let hashed = if let Opened::Hashed(id) = &sealed.opened { Some(*id) } else { None };
            let found =
                found.or(hashed).ok_or_else(|| Error::system("a sealed blob was not verified, which is a bug"))?;
            blob::check(&sealed.id, &found).map_err(distrust)?;
        }
        self.packers.add(sealed.kind, sealed.id, &sealed.bytes, sealed.uncompressed_length, &mut scratch.full)?;
        let content = if let Opened::Content(content) = sealed.opened { content } else { Vec::new() };
        let buffers = [sealed.bytes, content];
        let held = scratch.spared + held(&buffers);
        if held <= SPARED {
            scratch.spared = held;
            scratch.spare.push(buffers);
        }
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
