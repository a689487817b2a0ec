//! Tree blobs on demand, read in windows of their packs: the trees of one snapshot lie together, and a question to the storage
//! costs more than the bytes between them.

use std::collections::VecDeque;
use std::ops::Range;

use crate::blob::Opener;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{Index, Location};
use crate::pack::BlobKind;
use crate::pack::header::Entry;
use crate::run::{self, Core};
use crate::seal::Key;

/// How much of a pack is read at once for the sake of one tree, and how far trees in it may be apart.
const WINDOW: u64 = 4 << 20;
const GAP: u64 = 64 << 10;

/// What one loader keeps.
const KEPT: usize = 24 << 20;

/// Loads trees for one thread; the windows that it read last are kept.
pub struct TreeLoader<'a> {
    core: &'a Core,
    key: &'a Key,
    index: &'a Index,
    opener: Opener,
    windows: VecDeque<Window>,
}

struct Window {
    pack: Id,
    start: u64,
    data: run::Piece,
}

impl Window {
    fn get(&self, at: &Location) -> Option<&[u8]> {
        let start = usize::try_from(u64::from(at.offset).checked_sub(self.start)?).ok()?;
        (*self.data).as_ref().get(start..start + at.length as usize).filter(|_| self.pack == at.pack)
    }

    fn len(&self) -> usize {
        (*self.data).as_ref().len()
    }
}

impl<'a> TreeLoader<'a> {
    pub fn new(core: &'a Core, key: &'a Key, index: &'a Index) -> Result<Self> {
        Ok(TreeLoader { core, key, index, opener: Opener::new()?, windows: VecDeque::new() })
    }

    /// The bytes of a tree, verified. Every place where the index has it is tried before this fails.
    pub fn load(&mut self, tree: &Id) -> Result<Vec<u8>> {
        let mut failure = Error::damaged(format!("tree {tree} is not in the index"));
        for at in self.index.locate(BlobKind::Tree, tree) {
            match self.load_from(tree, &at) {
                Ok(bytes) => return Ok(bytes),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn load_from(&mut self, tree: &Id, at: &Location) -> Result<Vec<u8>> {
        let kept = self.windows.iter().position(|window| window.get(at).is_some());
        if let Some(number) = kept.or_else(|| self.read_window(at)) {
            // The window that was used last goes last.
            if let Some(window) = self.windows.remove(number) {
                self.windows.push_back(window);
            }
            let sealed = self.windows.back().and_then(|window| window.get(at));
            if let Some(sealed) = sealed
                && let Ok(bytes) = self.opener.open_owned(self.key, sealed, tree, at.uncompressed_length)
            {
                return Ok(bytes);
            }
        }
        let data = self.core.fetch(BlobKind::Tree, at.pack, at.offset, at.length)?.wait()?;
        self.opener.open_owned(self.key, (*data).as_ref(), tree, at.uncompressed_length)
    }

    /// Read the window around a blob and give its number; None where it has no neighbours or can't be read.
    fn read_window(&mut self, at: &Location) -> Option<usize> {
        let window = window_around(self.index.pack_entries(&at.pack), at);
        if window.end - window.start <= u64::from(at.length) {
            return None;
        }
        let asked = self
            .core
            .fetch(BlobKind::Tree, at.pack, u32::try_from(window.start).ok()?, (window.end - window.start) as u32)
            .ok()?;
        let data = asked.wait().ok()?;
        let window = Window { pack: at.pack, start: window.start, data };
        while self.windows.iter().map(Window::len).sum::<usize>() + window.len() > KEPT && !self.windows.is_empty() {
            self.windows.pop_front();
        }
        self.windows.push_back(window);
        Some(self.windows.len() - 1)
    }
}

/// The stretch of a pack that holds `at` and nothing but trees: the same for each blob of it.
pub fn window_around(mut entries: Vec<Entry>, at: &Location) -> Range<u64> {
    let wanted = u64::from(at.offset)..u64::from(at.offset) + u64::from(at.length);
    entries.retain(|entry| entry.kind == BlobKind::Tree);
    entries.sort_by_key(|entry| entry.offset);
    let mut window = 0..0;
    for entry in &entries {
        let (start, end) = (u64::from(entry.offset), u64::from(entry.offset) + u64::from(entry.length));
        if window.end > window.start && start <= window.end + GAP && end - window.start <= WINDOW {
            window.end = window.end.max(end);
        } else if window.start <= wanted.start && wanted.end <= window.end {
            return window;
        } else {
            window = start..end;
        }
    }
    if window.start <= wanted.start && wanted.end <= window.end { window } else { wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: BlobKind, offset: u32, length: u32) -> Entry {
        Entry { kind, id: Id([offset as u8; 32]), offset, length, uncompressed_length: 0 }
    }

    fn around(entries: &[Entry], offset: u32, length: u32) -> Range<u64> {
        window_around(entries.to_vec(), &Location { pack: Id([0; 32]), offset, length, uncompressed_length: 0 })
    }

    #[test]
    fn windows_hold_neighbouring_trees_only() {
        let entries = [
            entry(BlobKind::Tree, 0, 1000),
            entry(BlobKind::Tree, 1000, 500),
            entry(BlobKind::Data, 1500, 500_000),
            entry(BlobKind::Tree, 501_500, 100),
            entry(BlobKind::Tree, 501_600, 4 << 20),
            entry(BlobKind::Tree, 501_600 + (4 << 20), 10),
        ];
        assert_eq!(around(&entries, 0, 1000), 0..1500);
        assert_eq!(around(&entries, 1000, 500), 0..1500);
        assert_eq!(around(&entries, 501_500, 100), 501_500..501_600);
        assert_eq!(around(&entries, 501_600, 4 << 20), 501_600..501_600 + (4 << 20));
        // What the index doesn't list is read alone.
        assert_eq!(around(&entries, 7_000_000, 20), 7_000_000..7_000_020);
        assert_eq!(around(&[], u32::MAX, u32::MAX), u64::from(u32::MAX)..2 * u64::from(u32::MAX));
    }
}
