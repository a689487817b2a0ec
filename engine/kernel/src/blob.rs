//! Opening one blob: unseal, decompress, check against its id.

use crate::codec::Decompressor;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::seal::Key;
use crate::sha::{Hasher, sha256};

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
}
