//! What a file holds, against what it should hold.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::holes::{ZERO_CHUNK, ZERO_CHUNK_LENGTH};
use super::place::read_exact;
use crate::id::Id;
use crate::index::Index;
use crate::pack::BlobKind;

const PART: usize = 256 << 10;

/// The length of a data blob's plaintext. That of the zero chunk is known without an index.
pub fn blob_length(index: &Index, blob: &Id) -> Option<u64> {
    if blob.0 == ZERO_CHUNK {
        return Some(ZERO_CHUNK_LENGTH.into());
    }
    index.plain_length(BlobKind::Data, blob).map(u64::from)
}

/// A blob of a file and where it lies in it.
pub struct Span {
    pub blob: Id,
    pub offset: u64,
    pub length: u64,
}

/// Where each blob of a file lies; the id of the first one that isn't in the index.
pub fn spans<'a>(index: &'a Index, content: &'a [Id]) -> impl Iterator<Item = Result<Span, Id>> + 'a {
    let mut offset = 0u64;
    content.iter().map(move |blob| {
        let length = blob_length(index, blob).ok_or(*blob)?;
        let span = Span { blob: *blob, offset, length };
        offset = offset.saturating_add(length);
        Ok(span)
    })
}

/// Whether the file holds the blob at its place. Nothing is allocated by its length.
pub fn holds(fd: &OwnedFd, span: &Span, size: u64, buffer: &mut Vec<u8>) -> Result<bool, Errno> {
    if span.offset.saturating_add(span.length) > size {
        return Ok(false);
    }
    buffer.resize(PART, 0);
    let mut hash = Sha256::new();
    let mut done = 0;
    while done < span.length {
        let part = (span.length - done).min(PART as u64) as usize;
        if !read_exact(fd, &mut buffer[..part], span.offset + done)? {
            return Ok(false);
        }
        hash.update(&buffer[..part]);
        done += part as u64;
    }
    Ok(<[u8; 32]>::from(hash.finalize()) == span.blob.0)
}
