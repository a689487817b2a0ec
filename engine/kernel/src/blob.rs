//! Opening one blob: unseal, decompress, check against its id.

use crate::codec::Decompressor;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::seal::Key;
use crate::sha::sha256;

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
        let context = |e: Error| match e {
            Error::Damaged(m) => Error::Damaged(format!("blob {id} is damaged: {m}")),
            other => other,
        };
        key.unseal_into(sealed, &mut self.unsealed).map_err(context)?;
        let plain = if uncompressed_length == 0 {
            &self.unsealed
        } else {
            let expected = uncompressed_length as usize;
            self.decompressor.decompress_into(&self.unsealed, expected, &mut self.plain).map_err(context)?;
            if self.plain.len() != expected {
                return Err(context(Error::damaged(format!(
                    "it decompresses to {} bytes instead of {expected}",
                    self.plain.len()
                ))));
            }
            &self.plain
        };
        let found = sha256(plain);
        if found != *id {
            return Err(context(Error::damaged(format!("its content has the id {found}"))));
        }
        Ok(plain)
    }

    /// As `open`, but hands the plaintext over.
    pub fn open_owned(&mut self, key: &Key, sealed: &[u8], id: &Id, uncompressed_length: u32) -> Result<Vec<u8>> {
        self.open(key, sealed, id, uncompressed_length)?;
        Ok(std::mem::take(if uncompressed_length == 0 { &mut self.unsealed } else { &mut self.plain }))
    }
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
        assert!(open_blob(&key, &packed, &id, length - 1).is_err());
        assert!(open_blob(&key, &packed, &id, length + 1).is_err());
        assert!(open_blob(&key, &packed, &id, 0).is_err());
        assert!(open_blob(&key, &raw, &id, length).is_err());
        assert!(open_blob(&key, &raw, &sha256(b"other"), 0).is_err());
    }
}
