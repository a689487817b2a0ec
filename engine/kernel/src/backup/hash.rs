//! Hashing chunks and storing them.

use std::sync::OnceLock;

use super::Shared;
use super::read::{Batch, Piece};
use super::save::Saver;
use crate::chunker::MIN_SIZE;
use crate::error::Result;
use crate::id::Id;
use crate::pack::BlobKind;
use crate::sha::sha256;

static ZEROS: [u8; MIN_SIZE] = [0; MIN_SIZE];

/// The id of the chunk that long runs of zeros are cut into.
fn zeros_id() -> Id {
    static KNOWN: OnceLock<Id> = OnceLock::new();
    *KNOWN.get_or_init(|| sha256(&ZEROS))
}

fn identify(plain: &[u8]) -> Id {
    // Comparing is many times faster than hashing, and on anything else ends at the first bytes.
    if plain.len() == MIN_SIZE && plain == ZEROS { zeros_id() } else { sha256(plain) }
}

/// Works on batches until there are no more.
pub fn run(shared: &Shared<'_>, saver: &Saver<'_>) -> Result<()> {
    let mut scratch = saver.scratch()?;
    while let Some(Batch { buffer, pieces }) = shared.batches.pop()? {
        for Piece { start, end, file, place } in pieces {
            let plain = if start == end { &ZEROS[..] } else { &buffer[start..end] };
            let id = identify(plain);
            saver.save(&mut scratch, BlobKind::Data, id, plain)?;
            file.assembly.chunk_done(place, id);
        }
    }
    Ok(())
}
