//! Blobs by their ids, wherever the index says they are.

use super::{Core, Pending};
use crate::blob::Opener;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{Index, Location};
use crate::pack::BlobKind;
use crate::seal::Key;

/// What a job needs to read blobs.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub core: &'a Core,
    pub key: &'a Key,
    pub index: &'a Index,
}

/// A blob that was asked for.
pub struct Requested<'a> {
    source: Source<'a>,
    kind: BlobKind,
    id: Id,
    place: Location,
    pending: Pending,
    others: std::vec::IntoIter<Location>,
}

impl<'a> Source<'a> {
    /// Asks for a blob; `Error::Damaged` where the index does not know it.
    pub fn request(self, kind: BlobKind, id: Id) -> Result<Requested<'a>> {
        let mut others = self.index.locate(kind, &id).into_iter();
        let place =
            others.next().ok_or_else(|| Error::damaged(format!("the index does not know the {kind} blob {id}")))?;
        let pending = self.core.fetch(kind, place.pack, place.offset, place.length)?;
        Ok(Requested { source: self, kind, id, place, pending, others })
    }

    /// Asks for a blob and waits for it.
    pub fn load(self, kind: BlobKind, id: Id, opener: &mut Opener) -> Result<Vec<u8>> {
        self.request(kind, id)?.wait(opener)
    }
}

impl Requested<'_> {
    /// Waits for the blob, opened and checked. Where one place fails, the next is tried; the first failure is told.
    pub fn wait(mut self, opener: &mut Opener) -> Result<Vec<u8>> {
        let mut first_failure = None;
        loop {
            let place = self.place;
            let opened = self.pending.wait().and_then(|piece| {
                opener.open_owned(self.source.key, (*piece).as_ref(), &self.id, place.uncompressed_length)
            });
            match opened {
                Ok(plain) => return Ok(plain),
                Err(error @ (Error::Damaged(_) | Error::Refused(_))) => {
                    let failure = first_failure.get_or_insert(error);
                    let Some(next) = self.others.next() else { return Err(failure.clone()) };
                    self.place = next;
                    self.pending = self.source.core.fetch(self.kind, next.pack, next.offset, next.length)?;
                }
                Err(other) => return Err(other),
            }
        }
    }
}
