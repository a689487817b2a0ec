//! Runs of zeros: written as holes.

use std::ops::Range;

/// Blocks that a file system can leave out.
const BLOCK: usize = 4096;

/// A shorter run of zeros is written: each hole costs an extent.
const LEAST: usize = 4 * BLOCK;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The length of the 512 KiB chunk that the chunker cuts from zeros, whatever the polynomial, and its id.
pub const ZERO_CHUNK_LENGTH: u32 = 512 << 10;
pub const ZERO_CHUNK: [u8; 32] = [
    0x07, 0x85, 0x4d, 0x2f, 0xef, 0x29, 0x7a, 0x06, 0xba, 0x81, 0x68, 0x5e, 0x66, 0x0c, 0x33, 0x2d, 0xe3, 0x6d, 0x5d,
    0x18, 0xd5, 0x46, 0x92, 0x7d, 0x30, 0xda, 0xad, 0x6d, 0x7f, 0xda, 0x15, 0x41,
];

/// Split data that goes to `offset` into stretches to write (true) and to leave out (false). Holes start and end at blocks of
/// the file, and at the data's ends where all of it is zeros.
pub fn stretches(data: &[u8], offset: u64) -> Vec<(Range<usize>, bool)> {
    if data.is_empty() {
        return Vec::new();
    }
    if is_zero(data) {
        return vec![(0..data.len(), data.len() < LEAST)];
    }
    let mut found: Vec<(Range<usize>, bool)> = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let into_block = ((offset + start as u64) % BLOCK as u64) as usize;
        let end = data.len().min(start + BLOCK - into_block);
        // A block that the data only touches may hold other data besides.
        let write = end - start < BLOCK || data[start..end] != ZEROS;
        match found.last_mut() {
            Some((range, same)) if *same == write => range.end = end,
            _ => found.push((start..end, write)),
        }
        start = end;
    }
    merge_short(found)
}

fn merge_short(stretches: Vec<(Range<usize>, bool)>) -> Vec<(Range<usize>, bool)> {
    let mut merged: Vec<(Range<usize>, bool)> = Vec::new();
    for (range, write) in stretches {
        let write = write || range.len() < LEAST;
        match merged.last_mut() {
            Some((before, same)) if *same == write => before.end = range.end,
            _ => merged.push((range, write)),
        }
    }
    merged
}

fn is_zero(data: &[u8]) -> bool {
    data.chunks(BLOCK).all(|block| *block == ZEROS[..block.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha::sha256;

    #[test]
    fn the_zero_chunk() {
        assert_eq!(sha256(&vec![0; ZERO_CHUNK_LENGTH as usize]).0, ZERO_CHUNK);
    }

    #[test]
    fn holes_are_whole_blocks_and_long_enough() {
        assert_eq!(stretches(&[], 0), []);
        assert_eq!(stretches(&[1; 100], 7), [(0..100, true)]);
        assert_eq!(stretches(&vec![0; 20_000], 5), [(0..20_000, false)]);
        assert_eq!(stretches(&vec![0; 16_383], 0), [(0..16_383, true)]);
        let mut data = vec![0; 65_536];
        data[0] = 1;
        data[65_535] = 1;
        assert_eq!(stretches(&data, 0), [(0..4096, true), (4096..61_440, false), (61_440..65_536, true)]);
        // 1000 bytes into a block, the first whole block starts 3096 bytes on.
        assert_eq!(stretches(&data, 1000), [(0..3096, true), (3096..64_536, false), (64_536..65_536, true)]);
        data[20_000] = 1;
        assert_eq!(stretches(&data, 0), [(0..20_480, true), (20_480..61_440, false), (61_440..65_536, true)]);
    }

    #[test]
    fn stretches_cover_everything_in_order_and_leave_out_only_zeros() {
        let mut seed = 1u64;
        for round in 0..300 {
            let mut data = vec![0; 100_000];
            for _ in 0..round % 8 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                data[(seed >> 33) as usize % 100_000] = 9;
            }
            let mut at = 0;
            for (range, write) in stretches(&data, seed % 8192) {
                assert_eq!(range.start, at);
                assert!(write || data[range.clone()].iter().all(|&b| b == 0));
                at = range.end;
            }
            assert_eq!(at, data.len());
        }
    }
}
