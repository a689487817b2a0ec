//! Hashing chunks and storing them.

use std::sync::OnceLock;
use std::time::Duration;

use super::Shared;
use super::packer::Full;
use super::read::{Batch, Piece};
use super::save::{Saver, Scratch};
use crate::chunker::MIN_SIZE;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::sha::{Begun, sha256, sha256_along};

static ZEROS: [u8; MIN_SIZE] = [0; MIN_SIZE];

/// The id of the chunk that long runs of zeros are cut into.
fn zeros_id() -> Id {
    static KNOWN: OnceLock<Id> = OnceLock::new();
    *KNOWN.get_or_init(|| sha256(&ZEROS))
}

/// Whether a chunk is that of zeros: comparing is many times faster than hashing, and on anything else ends at the first bytes.
fn is_zeros(plain: &[u8]) -> bool {
    plain.len() == MIN_SIZE && plain == ZEROS
}

/// A thread's work on batches. What a batch sealed and the packs that it filled are hashed together with the next batch's chunks,
/// because several messages are hashed faster than one.
struct Hasher<'a> {
    shared: &'a Shared<'a>,
    saver: &'a Saver<'a>,
    scratch: Scratch,
}

/// Works on batches until there are no more.
pub fn run(shared: &Shared<'_>, saver: &Saver<'_>) -> Result<()> {
    let mut hasher = Hasher { shared, saver, scratch: saver.scratch()? };
    while let Some(batch) = hasher.next()? {
        hasher.batch(batch)?;
    }
    hasher.finish()
}

impl Hasher<'_> {
    /// The next batch; before waiting for it, what is unverified is done, and full packs are handed out.
    fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(batch) = self.shared.batches.pop_within(Duration::ZERO)? {
            return Ok(Some(batch));
        }
        self.finish()?;
        self.shared.batches.pop()
    }

    fn finish(&mut self) -> Result<()> {
        self.hash(&[])?;
        self.saver.packers.hand_out_all(&mut self.scratch.full)
    }

    /// Hashes these messages, and with them what is unverified, which is then packed, and full packs, which are handed out: the newest
    /// of them only as far as that costs next to nothing, so that it may be handed out later.
    fn hash(&mut self, messages: &[&[u8]]) -> Result<Vec<Id>> {
        let mut full = std::mem::take(&mut self.scratch.full);
        let mut newest = full.pop();
        // The longest first, so that no message is left to be hashed alone for long.
        let mut all: Vec<(&[u8], Begun)> = full.iter().map(Full::message).collect();
        let opened = self.scratch.opened();
        all.extend(opened.chain(messages.iter().copied()).map(|message| (message, Begun::default())));
        let before = all.len() - messages.len();
        let (mut ids, ended) = sha256_along(&all, newest.as_mut().map(Full::part));
        let asked_for = ids.split_off(before);
        let mut found = ids.into_iter();
        for (full, pack) in full.into_iter().zip(found.by_ref()) {
            self.saver.packers.hand_out(full, pack)?;
        }
        match (newest, ended) {
            (Some(full), Some(pack)) => self.saver.packers.hand_out(full, pack)?,
            (newest, _) => self.scratch.full.extend(newest),
        }
        self.saver.pack(&mut self.scratch, found)?;
        Ok(asked_for)
    }

    fn batch(&mut self, Batch { buffer, pieces }: Batch) -> Result<()> {
        let content =
            |piece: &Piece| if piece.start == piece.end { &ZEROS[..] } else { &buffer[piece.start..piece.end] };
        let plain: Vec<(Piece, &[u8])> =
            pieces.into_iter().map(|piece| (content(&piece), piece)).map(|(c, p)| (p, c)).collect();
        let zeros: Vec<bool> = plain.iter().map(|(p, content)| p.start == p.end || is_zeros(content)).collect();
        let messages: Vec<&[u8]> = plain.iter().zip(&zeros).filter(|(_, z)| !**z).map(|((_, c), _)| *c).collect();
        let mut ids = self.hash(&messages)?.into_iter();
        for ((piece, content), zeros) in plain.iter().zip(zeros) {
            let id = if zeros { Some(zeros_id()) } else { ids.next() };
            let id = id.ok_or_else(|| Error::system("a chunk was not hashed, which is a bug"))?;
            if !self.scratch.has_room(content.len()) {
                self.hash(&[])?;
            }
            self.saver.seal(&mut self.scratch, BlobKind::Data, id, content)?;
            piece.file.chunk_done(piece.place, id);
        }
        Ok(())
    }
}
