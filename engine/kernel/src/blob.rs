//! Opening one blob: unseal, decompress, check against its id.

use crate::codec::Decompressor;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::seal::Key;
use crate::sha::{Begun, Hasher, sha256, sha256_along};

/// Several blobs are hashed faster than one: so many together, of up to so many bytes where they are more than two.
const GROUP: usize = 64;
const GROUP_BYTES: usize = 2 << 20;
/// Longer buffers are needed too seldom to be kept.
const LONG: usize = 4 << 20;

/// A sealed blob to be opened: its bytes where they could be had, its id, and its length where it is compressed, else 0.
#[derive(Clone, Copy)]
pub struct Sealed<'d> {
    pub bytes: Option<&'d [u8]>,
    pub id: Id,
    pub uncompressed_length: u32,
}

impl Sealed<'_> {
    /// What it takes when it is open, where it is what it says.
    pub fn size(&self) -> usize {
        self.bytes.map_or(0, <[u8]>::len).max(self.uncompressed_length as usize)
    }
}

/// Slices of items, each a group that is worth opening together; `size` is what an item takes when it is open.
pub fn groups<T>(items: &[T], size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |item: &&T| {
            bytes += size(item);
            bytes <= GROUP_BYTES
        };
        let count = rest.iter().take(GROUP).take_while(fits).count().max(2).min(rest.len());
        let (group, others) = rest.split_at(count);
        rest = others;
        (!group.is_empty()).then_some(group)
    })
}

/// Buffers for the blobs of a group, kept by a thread.
#[derive(Default)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// Gives back what is seldom needed.
    pub fn trim(&mut self) {
        self.0.iter_mut().filter(|buffer| buffer.capacity() > LONG).for_each(|buffer| *buffer = Vec::new());
    }
}

/// What a thread keeps to open blobs without new allocations.
pub struct Opener {
    unsealed: Vec<u8>,
    plain: Vec<u8>,
    decompressor: Decompressor,
}

impl Opener {
    pub fn new() -> Result<Self> {
        Ok(Self { unsealed: Vec::new(), plain: Vec::new(), decompressor: Decompressor::new()? })
    }

    /// The plaintext of a blob, valid until the next call. `uncompressed_length` is 0 for a blob that is stored raw.
    pub fn open(&mut self, key: &Key, sealed: &[u8], id: &Id, uncompressed_length: u32) -> Result<&[u8]> {
        let mut plain = std::mem::take(&mut self.plain);
        let decoded = self.decode(key, sealed, id, uncompressed_length, &mut plain);
        self.plain = plain;
        decoded?;
        check(id, &sha256(&self.plain))?;
        Ok(&self.plain)
    }

    /// As `open`, into a buffer of the caller's, who has to `check` the content's id.
    pub fn decode(
        &mut self,
        key: &Key,
        sealed: &[u8],
        id: &Id,
        uncompressed_length: u32,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        if uncompressed_length == 0 {
            return key.unseal_into(sealed, plain).map_err(|e| of_blob(id, e));
        }
        key.unseal_into(sealed, &mut self.unsealed).map_err(|e| of_blob(id, e))?;
        let expected = uncompressed_length as usize;
        self.decompressor.decompress_into(&self.unsealed, expected, plain).map_err(|e| of_blob(id, e))?;
        if plain.len() != expected {
            let found = plain.len();
            return Err(of_blob(id, Error::damaged(format!("it decompresses to {found} bytes instead of {expected}"))));
        }
        Ok(())
    }

    /// As `decode`, into memory that has the content's length.
    pub fn decode_to(&mut self, key: &Key, sealed: &[u8], id: &Id, compressed: bool, plain: &mut [u8]) -> Result<()> {
        if !compressed {
            return key.unseal_to(sealed, plain).map_err(|e| of_blob(id, e));
        }
        key.unseal_into(sealed, &mut self.unsealed).map_err(|e| of_blob(id, e))?;
        let decompressed = self.decompressor.decompress_to(&self.unsealed, plain).map_err(|e| of_blob(id, e));
        if self.unsealed.capacity() > LONG {
            self.unsealed = Vec::new();
        }
        decompressed
    }

    /// Opens blobs together and gives, in their order, the content of each or why it can't be had. What is hashed of `along` meanwhile
    /// costs next to nothing; its digest comes out once it came to its end.
    pub fn open_each<'b>(
        &mut self,
        key: &Key,
        blobs: &[Sealed<'_>],
        buffers: &'b mut Buffers,
        along: Option<(&[u8], &mut Begun)>,
    ) -> (Vec<Result<&'b [u8]>>, Option<Id>) {
        let Buffers(buffers) = buffers;
        if buffers.len() < blobs.len() {
            buffers.resize_with(blobs.len(), Vec::new);
        }
        let decoded = blobs.iter().zip(buffers.iter_mut()).map(|(blob, plain)| {
            let missing = || of_blob(&blob.id, Error::damaged("its bytes are missing"));
            let sealed = blob.bytes.ok_or_else(missing)?;
            self.decode(key, sealed, &blob.id, blob.uncompressed_length, plain)
        });
        let decoded: Vec<Result<()>> = decoded.collect();
        let hashed = decoded.iter().zip(buffers.iter()).filter(|(decoded, _)| decoded.is_ok());
        let messages: Vec<_> = hashed.map(|(_, plain)| (plain.as_slice(), Begun::default())).collect();
        let (ids, ended) = sha256_along(&messages, along);
        let mut ids = ids.into_iter();
        let opened = decoded.into_iter().zip(blobs).zip(buffers.iter()).map(|((decoded, blob), plain)| {
            decoded?;
            let found = ids.next().ok_or_else(|| Error::system("a blob was not hashed, which is a bug"))?;
            check(&blob.id, &found).map(|()| plain.as_slice())
        });
        (opened.collect(), ended)
    }

    /// The id of a compressed blob's content, for one that is too long to be held: it is hashed on the way and never there as a whole.
    pub fn hash(&mut self, key: &Key, sealed: &[u8], id: &Id, uncompressed_length: u32) -> Result<Id> {
        key.unseal_into(sealed, &mut self.unsealed).map_err(|e| of_blob(id, e))?;
        let (mut hasher, mut length) = (Hasher::new(), 0u64);
        self.decompressor
            .pieces(&self.unsealed, |piece| {
                length += piece.len() as u64;
                if length > uncompressed_length.into() {
                    return Err(Error::damaged(format!("it holds more than the {uncompressed_length} bytes it may")));
                }
                hasher.update(piece);
                Ok(())
            })
            .map_err(|e| of_blob(id, e))?;
        Ok(hasher.finish())
    }

    /// As `open`, but hands the plaintext over.
    pub fn open_owned(&mut self, key: &Key, sealed: &[u8], id: &Id, uncompressed_length: u32) -> Result<Vec<u8>> {
        self.open(key, sealed, id, uncompressed_length)?;
        Ok(std::mem::take(&mut self.plain))
    }
}

fn of_blob(id: &Id, error: Error) -> Error {
    match error {
        Error::Damaged(why) => Error::Damaged(format!("blob {id} is damaged: {why}")),
        other => other,
    }
}

/// Whether a blob's content has the id that it must have.
pub fn check(id: &Id, found: &Id) -> Result<()> {
    if id == found {
        return Ok(());
    }
    Err(of_blob(id, Error::damaged(format!("its content has the id {found}"))))
}

pub fn open_blob(key: &Key, sealed: &[u8], id: &Id, uncompressed_length: u32) -> Result<Vec<u8>> {
    Opener::new()?.open_owned(key, sealed, id, uncompressed_length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress;

    #[test]
    fn opens_raw_and_compressed_blobs_and_sees_damage() {
        let key = Key::new(&[3; 32], &[5; 16], &[7; 16]).unwrap();
        let plain = b"some text some text some text".to_vec();
        let id = sha256(&plain);
        let raw = key.seal(&plain).unwrap();
        let packed = key.seal(&compress(&plain, 3).unwrap()).unwrap();
        let length = plain.len() as u32;
        assert_eq!(open_blob(&key, &raw, &id, 0).unwrap(), plain);
        assert_eq!(open_blob(&key, &packed, &id, length).unwrap(), plain);
        assert_eq!(Opener::new().unwrap().hash(&key, &packed, &id, length).unwrap(), id);
        assert!(Opener::new().unwrap().hash(&key, &packed, &id, length - 1).is_err());
        assert!(Opener::new().unwrap().hash(&key, &packed[1..], &id, length).is_err());
        let cut = key.seal(&compress(&plain, 3).unwrap()[..12]).unwrap();
        assert!(Opener::new().unwrap().hash(&key, &cut, &id, length).is_err());
        assert!(open_blob(&key, &packed, &id, length - 1).is_err());
        assert!(open_blob(&key, &packed, &id, length + 1).is_err());
        assert!(open_blob(&key, &packed, &id, 0).is_err());
        assert!(open_blob(&key, &raw, &id, length).is_err());
        assert!(open_blob(&key, &raw, &sha256(b"other"), 0).is_err());
    }

    /// Each as if it were opened alone, and a message that is hashed along as if it were hashed alone.
    #[test]
    fn opens_blobs_together() {
        let key = Key::new(&[3; 32], &[5; 16], &[7; 16]).unwrap();
        let plain: Vec<Vec<u8>> = [5000, 0, 70_000, 1, 300].iter().map(|n| vec![*n as u8; *n]).collect();
        let stored: Vec<Vec<u8>> = plain.iter().map(|p| key.seal(&compress(p, 3).unwrap()).unwrap()).collect();
        let mut blobs: Vec<Sealed> = plain
            .iter()
            .zip(&stored)
            .map(|(p, s)| Sealed { bytes: Some(s), id: sha256(p), uncompressed_length: p.len() as u32 })
            .collect();
        blobs[1] = Sealed { bytes: Some(&stored[3]), ..blobs[1] };
        blobs[3].bytes = None;
        blobs[4].id = sha256(b"other");
        let (mut opener, mut buffers, mut begun) = (Opener::new().unwrap(), Buffers::default(), Begun::default());
        let along = vec![9; 3 << 10];
        for _ in 0..2 {
            let (opened, _) = opener.open_each(&key, &blobs, &mut buffers, Some((&along, &mut begun)));
            for (i, (opened, blob)) in opened.iter().zip(&blobs).enumerate() {
                let alone = blob.bytes.map(|b| open_blob(&key, b, &blob.id, blob.uncompressed_length));
                match alone {
                    Some(Ok(alone)) => assert_eq!(opened, &Ok(&alone[..]), "{i}"),
                    _ => assert!(matches!(opened, Err(Error::Damaged(_))), "{i}"),
                }
            }
            assert_eq!(opened.iter().filter(|o| o.is_ok()).count(), 2);
            buffers.trim();
        }
        assert_eq!(sha256_along(&[(&along, begun)], None).0, [sha256(&along)]);
    }

    #[test]
    fn groups_have_all_items_in_order_and_keep_to_the_limits() {
        let sizes: Vec<usize> = (0..500).map(|i| [10, 8 << 20, 1 << 20, 0][i / 7 % 4]).collect();
        let parts: Vec<&[usize]> = groups(&sizes, |n| *n).collect();
        assert_eq!(parts.concat(), sizes);
        assert!(parts.iter().all(|p| p.len() <= 2 || (p.iter().sum::<usize>() <= GROUP_BYTES && p.len() <= GROUP)));
        assert!(groups(&[], |n: &usize| *n).next().is_none());
    }
}
