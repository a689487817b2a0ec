//! A pack's header: one entry for each blob, in the pack's order.

use super::BlobKind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::seal::{Key, OVERHEAD};

/// The bytes after the sealed header that say how long it is.
pub const LENGTH_FIELD: usize = 4;
/// The longest sealed header with its length field that restic reads.
pub const MAX_HEADER: usize = (16 << 20) + LENGTH_FIELD;
/// What a pack's end takes without entries.
pub const EMPTY_SIZE: usize = OVERHEAD + LENGTH_FIELD;
const RAW_ENTRY: usize = 37;
const COMPRESSED_ENTRY: usize = 41;
/// The most that one blob takes in a header.
pub const LONGEST_ENTRY: usize = COMPRESSED_ENTRY;

/// One blob of a pack. `length` is the sealed length, `uncompressed_length` 0 for a blob stored raw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub kind: BlobKind,
    pub id: Id,
    pub offset: u32,
    pub length: u32,
    pub uncompressed_length: u32,
}

impl Entry {
    /// How many bytes it takes in a pack's header.
    pub fn header_size(&self) -> usize {
        if self.uncompressed_length == 0 { RAW_ENTRY } else { COMPRESSED_ENTRY }
    }

    fn tag(&self) -> u8 {
        match (self.kind, self.uncompressed_length) {
            (BlobKind::Data, 0) => 0,
            (BlobKind::Tree, 0) => 1,
            (BlobKind::Data, _) => 2,
            (BlobKind::Tree, _) => 3,
        }
    }
}

/// How many bytes a pack's end takes for these entries: the sealed header and the length field.
pub fn sealed_size<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    entries.map(Entry::header_size).sum::<usize>() + EMPTY_SIZE
}

/// Whether a pack with `count` entries can't take another one.
pub fn is_full(count: usize) -> bool {
    EMPTY_SIZE + COMPRESSED_ENTRY * (count + 1) > MAX_HEADER
}

/// Appends the sealed header and its length to a pack that holds exactly these blobs.
pub fn write(key: &Key, entries: &[Entry], pack: &mut Vec<u8>) -> Result<()> {
    let mut plain = Vec::with_capacity(entries.len() * COMPRESSED_ENTRY);
    for entry in entries {
        plain.push(entry.tag());
        plain.extend_from_slice(&entry.length.to_le_bytes());
        if entry.uncompressed_length != 0 {
            plain.extend_from_slice(&entry.uncompressed_length.to_le_bytes());
        }
        plain.extend_from_slice(&entry.id.0);
    }
    let sealed = key.seal(&plain)?;
    let length = u32::try_from(sealed.len()).map_err(|_| Error::invalid("a pack's header is too long"))?;
    pack.extend_from_slice(&sealed);
    pack.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (first, after) =
        rest.split_first_chunk::<N>().ok_or_else(|| Error::damaged("a pack's header ends within an entry"))?;
    *rest = after;
    Ok(*first)
}

/// Decodes a sealed header (without the length field).
pub fn read(key: &Key, sealed: &[u8]) -> Result<Vec<Entry>> {
    let plain = key.unseal(sealed)?;
    let mut rest = &plain[..];
    let mut entries = Vec::new();
    let mut offset: u32 = 0;
    while !rest.is_empty() {
        let [tag] = take(&mut rest)?;
        let (kind, compressed) = match tag {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            other => return Err(Error::damaged(format!("a pack's header has an entry of unknown type {other}"))),
        };
        let length = u32::from_le_bytes(take(&mut rest)?);
        let uncompressed_length = if compressed { u32::from_le_bytes(take(&mut rest)?) } else { 0 };
        let id = Id(take(&mut rest)?);
        if (length as usize) < OVERHEAD {
            return Err(Error::damaged(format!("a pack's header gives blob {id} {length} bytes, too few for any")));
        }
        if compressed && uncompressed_length == 0 {
            return Err(Error::damaged(format!("a pack's header calls the empty blob {id} compressed")));
        }
        entries.push(Entry { kind, id, offset, length, uncompressed_length });
        offset = offset
            .checked_add(length)
            .ok_or_else(|| Error::damaged("a pack's header lists blobs of more than 4 GiB in all"))?;
    }
    if entries.is_empty() {
        return Err(Error::damaged("a pack's header lists no blob"));
    }
    Ok(entries)
}

/// Splits a whole pack into its blobs and its sealed header.
pub fn split(pack: &[u8]) -> Result<(&[u8], &[u8])> {
    let (rest, field) = pack
        .split_last_chunk::<LENGTH_FIELD>()
        .ok_or_else(|| Error::damaged(format!("{} bytes are too few for a pack", pack.len())))?;
    let length = u32::from_le_bytes(*field) as usize;
    if length > rest.len() || length + LENGTH_FIELD > MAX_HEADER || length < OVERHEAD + RAW_ENTRY {
        return Err(Error::damaged(format!("a pack of {} bytes can't have a header of {length} bytes", pack.len())));
    }
    Ok(rest.split_at(rest.len() - length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha::sha256;

    fn key() -> Key {
        Key::new(&[3; 32], &[5; 16], &[7; 16]).unwrap()
    }

    fn entries() -> Vec<Entry> {
        let mut offset = 0;
        [(BlobKind::Data, 100, 0), (BlobKind::Data, 200, 500), (BlobKind::Tree, 33, 0), (BlobKind::Tree, 64, 7)]
            .into_iter()
            .map(|(kind, length, uncompressed_length)| {
                let entry = Entry { kind, id: sha256(&u32::to_le_bytes(length)), offset, length, uncompressed_length };
                offset += length;
                entry
            })
            .collect()
    }

    #[test]
    fn there_and_back() {
        let mut pack = vec![9; 397];
        write(&key(), &entries(), &mut pack).unwrap();
        assert_eq!(pack.len() - 397, sealed_size(entries().iter()));
        let (blobs, sealed) = split(&pack).unwrap();
        assert_eq!(blobs, vec![9; 397]);
        assert_eq!(read(&key(), sealed).unwrap(), entries());
    }

    #[test]
    fn damaged_headers_are_errors() {
        for plain in [
            vec![],
            vec![4; 37],
            vec![0; 36],
            [vec![2, 100, 0, 0, 0, 0, 0, 0, 0], vec![1; 32]].concat(),
            [vec![0, 31, 0, 0, 0], vec![1; 32]].concat(),
            [vec![0, 255, 255, 255, 255], vec![1; 32], vec![0, 255, 255, 255, 255], vec![1; 32]].concat(),
        ] {
            let sealed = key().seal(&plain).unwrap();
            assert!(matches!(read(&key(), &sealed), Err(Error::Damaged(_))), "{plain:?}");
        }
        assert!(split(&[]).is_err());
        assert!(split(&[0; 4]).is_err());
        assert!(split(&[255; 100]).is_err());
    }

    #[test]
    fn a_full_header_is_restics_limit() {
        assert!(!is_full(409_198));
        assert!(is_full(409_199));
    }
}
