//! Which pieces of packs are read for a batch of files, and where each blob goes.

use std::collections::HashMap;
use std::ops::Range;

use crate::id::Id;
use crate::index::Location;

/// Never more than this at once, but for a single blob that is longer.
const LONGEST: u64 = 8 << 20;

/// Unneeded bytes between two blobs that are cheaper to read than to ask twice for.
const GAP: u64 = 128 << 10;

/// One place in one file of the batch that a blob is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub blob: Id,
    pub file: u32,
    pub offset: u64,
}

/// A blob within a reading, and the wants (a range of the sorted ones) that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub blob: Id,
    pub at: Location,
    pub wants: Range<usize>,
}

/// A range of a pack, read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub pack: Id,
    pub offset: u64,
    pub length: u64,
    pub pieces: Vec<Piece>,
}

/// Sort the wants and plan the readings: packs in the order in which the wants need them first, each blob once.
///
/// Each want must have a place; those without are left out.
pub fn plan(mut wants: Vec<Want>, locate: impl Fn(&Id) -> Option<Location>) -> (Vec<Want>, Vec<Reading>) {
    let mut places: HashMap<Id, (u32, Location)> = HashMap::new();
    let mut packs: HashMap<Id, u32> = HashMap::new();
    for want in &wants {
        if !places.contains_key(&want.blob)
            && let Some(at) = locate(&want.blob)
        {
            let next = packs.len() as u32;
            places.insert(want.blob, (*packs.entry(at.pack).or_insert(next), at));
        }
    }
    wants.retain(|want| places.contains_key(&want.blob));
    wants.sort_by_cached_key(|want| {
        let (pack, at) = &places[&want.blob];
        (*pack, at.offset, want.blob, want.file, want.offset)
    });

    let mut readings: Vec<Reading> = Vec::new();
    let mut start = 0;
    while start < wants.len() {
        let blob = wants[start].blob;
        let end = start + wants[start..].iter().take_while(|want| want.blob == blob).count();
        let at = places[&blob].1;
        let piece = Piece { blob, at, wants: start..end };
        match readings.last_mut() {
            Some(reading) if reading.can_take(&at) => reading.take(piece),
            _ => readings.push(Reading::new(piece)),
        }
        start = end;
    }
    (wants, readings)
}

impl Reading {
    fn new(piece: Piece) -> Self {
        let at = piece.at;
        Reading { pack: at.pack, offset: at.offset.into(), length: at.length.into(), pieces: vec![piece] }
    }

    fn can_take(&self, at: &Location) -> bool {
        let end = self.offset + self.length;
        let piece_end = u64::from(at.offset) + u64::from(at.length);
        at.pack == self.pack && u64::from(at.offset) <= end + GAP && piece_end - self.offset <= LONGEST
    }

    fn take(&mut self, piece: Piece) {
        let piece_end = u64::from(piece.at.offset) + u64::from(piece.at.length);
        self.length = self.length.max(piece_end - self.offset);
        self.pieces.push(piece);
    }

    /// Where a piece lies within what was read.
    pub fn span(&self, piece: &Piece) -> Range<usize> {
        let start = (u64::from(piece.at.offset) - self.offset) as usize;
        start..start + piece.at.length as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Id {
        Id([n; 32])
    }

    fn want(blob: u8, file: u32, offset: u64) -> Want {
        Want { blob: id(blob), file, offset }
    }

    fn place(pack: u8, offset: u32, length: u32) -> Location {
        Location { pack: id(pack), offset, length, uncompressed_length: 0 }
    }

    #[test]
    fn near_blobs_are_read_together_and_each_once() {
        let places = HashMap::from([
            (id(1), place(9, 1000, 500)),
            (id(2), place(9, 1500, 700)),
            (id(3), place(8, 0, 10)),
            (id(4), place(9, 400_000, 5)),
        ]);
        let wants = vec![want(2, 0, 0), want(1, 0, 700), want(3, 1, 0), want(2, 1, 10), want(4, 2, 0), want(7, 2, 5)];
        let (sorted, readings) = plan(wants, |blob| places.get(blob).copied());
        assert_eq!(sorted, [want(1, 0, 700), want(2, 0, 0), want(2, 1, 10), want(4, 2, 0), want(3, 1, 0)]);
        let shape: Vec<_> = readings.iter().map(|r| (r.pack, r.offset, r.length, r.pieces.len())).collect();
        assert_eq!(shape, [(id(9), 1000, 1200, 2), (id(9), 400_000, 5, 1), (id(8), 0, 10, 1)]);
        assert_eq!(readings[0].pieces[1].wants, 1..3);
        assert_eq!(readings[0].span(&readings[0].pieces[1]), 500..1200);
    }

    #[test]
    fn no_reading_is_longer_than_eight_mebibytes_but_for_one_blob() {
        let mib = 1 << 20;
        let mut places: HashMap<Id, Location> = (0..20).map(|n| (id(n), place(9, u32::from(n) * mib, mib))).collect();
        places.insert(id(50), place(7, 0, 30 * mib));
        let wants = (0..20).chain([50]).map(|n| want(n, 0, 0)).collect();
        let (_, readings) = plan(wants, |blob| places.get(blob).copied());
        let lengths: Vec<_> = readings.iter().map(|r| r.length / u64::from(mib)).collect();
        assert_eq!(lengths, [8, 8, 4, 30]);
    }

    #[test]
    fn lying_places_neither_overflow_nor_panic() {
        let places = HashMap::from([
            (id(1), place(9, u32::MAX, u32::MAX)),
            (id(2), place(9, 0, u32::MAX)),
            (id(3), place(9, 5, 1)),
        ]);
        let (_, readings) = plan(vec![want(1, 0, 0), want(2, 0, 0), want(3, 0, 0)], |blob| places.get(blob).copied());
        for reading in &readings {
            for piece in &reading.pieces {
                assert!(reading.span(piece).end as u64 <= reading.length);
            }
        }
    }
}
