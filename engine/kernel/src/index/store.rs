//! Places of blobs, compactly, with a table to find them by kind and id.

use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::pack::header::Entry;

pub struct Stored {
    pub id: Id,
    pub offset: u32,
    pub length: u32,
    pub uncompressed_length: u32,
    /// The pack's number, and the kind in the lowest bit.
    pack_and_kind: u32,
}

/// With the table's 5 to 11 bytes, a blob costs less than 60.
const _: () = assert!(size_of::<Stored>() == 48);

impl Stored {
    pub fn pack(&self) -> u32 {
        self.pack_and_kind >> 1
    }

    pub fn kind(&self) -> BlobKind {
        if self.pack_and_kind & 1 == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    pub fn entry(&self) -> Entry {
        Entry {
            kind: self.kind(),
            id: self.id,
            offset: self.offset,
            length: self.length,
            uncompressed_length: self.uncompressed_length,
        }
    }
}

/// Blocks of a fixed size, so that growing never copies and never holds twice the memory.
#[derive(Default)]
pub struct Store {
    blocks: Vec<Vec<Stored>>,
    table: HashTable<u32>,
}

const BLOCK: usize = 1 << 14;

impl Store {
    pub const MAX_PACK: u32 = u32::MAX >> 1;

    pub fn len(&self) -> u32 {
        match self.blocks.split_last() {
            Some((last, full)) => (full.len() * BLOCK + last.len()) as u32,
            None => 0,
        }
    }

    pub fn get(&self, number: u32) -> &Stored {
        &self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }

    /// Adds a place; false where it is known exactly so.
    pub fn add(&mut self, pack: u32, entry: &Entry) -> Result<bool> {
        let kind = u32::from(entry.kind == BlobKind::Tree);
        let stored = Stored {
            id: entry.id,
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: entry.uncompressed_length,
            pack_and_kind: pack << 1 | kind,
        };
        let known = self.find(entry.kind, &entry.id).any(|s| s.pack() == pack && s.entry() == *entry);
        if known {
            return Ok(false);
        }
        let number = self.len();
        if number == u32::MAX {
            return Err(Error::system("the index has more blobs than this program can hold"));
        }
        if self.blocks.last().is_none_or(|b| b.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let hash = stored.id.prefix();
        if let Some(last) = self.blocks.last_mut() {
            last.push(stored);
        }
        let blocks = &self.blocks;
        self.table.insert_unique(hash, number, |n| blocks[*n as usize / BLOCK][*n as usize % BLOCK].id.prefix());
        Ok(true)
    }

    pub fn find_numbers(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = u32> {
        self.table.iter_hash(id.prefix()).copied().filter(move |n| {
            let stored = self.get(*n);
            stored.id == *id && stored.kind() == kind
        })
    }

    pub fn find(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = &Stored> {
        self.find_numbers(kind, id).map(|n| self.get(n))
    }
}
