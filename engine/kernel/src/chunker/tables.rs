//! The fingerprint by table look-ups: one window at a time, or six at once.

use super::{MASK, WINDOW};
use crate::polynomial::{DEGREE, modulo};

#[derive(Clone)]
pub struct Tables {
    /// b·x^(8·64) mod P: takes the byte that leaves the window out after the shift.
    out: [u64; 256],
    /// (t·x^53 mod P) | t << 53: reduces what the shift pushed beyond degree 52.
    reduce: [u64; 256],
}

/// So many windows are independent of each other that their look-ups overlap.
const LANES: usize = 6;
/// How far each of them goes.
const LANE: usize = 8 << 10;

impl Tables {
    pub fn new(polynomial: u64) -> Self {
        let mut out = [0; 256];
        let mut reduce = [0; 256];
        for b in 0..256u64 {
            out[b as usize] = (0..WINDOW).fold(b, |h, _| modulo(h << 8, polynomial));
            reduce[b as usize] = modulo(b << DEGREE, polynomial) | b << DEGREE;
        }
        Self { out, reduce }
    }

    #[inline]
    fn push(&self, digest: u64, byte: u8) -> u64 {
        ((digest << 8) | u64::from(byte)) ^ self.reduce[(digest >> (DEGREE - 8)) as usize & 255]
    }

    #[inline]
    fn roll(&self, digest: u64, new: u8, old: u8) -> u64 {
        self.push(digest, new) ^ self.out[usize::from(old)]
    }

    fn window(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |d, b| self.push(d, *b))
    }

    /// The first n in from..=to such that a cut is allowed after `data[..n]`; `from` is at least `WINDOW`.
    pub fn first(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        if from > to {
            return None;
        }
        let mut digest = self.window(&data[from - WINDOW..from]);
        if digest & MASK == 0 {
            return Some(from);
        }
        let leaving = &data[from - WINDOW..to - WINDOW];
        for (i, (new, old)) in data[from..to].iter().zip(leaving).enumerate() {
            digest = self.roll(digest, *new, *old);
            if digest & MASK == 0 {
                return Some(from + i + 1);
            }
        }
        None
    }

    /// The same, several windows at a time.
    pub fn first_by_lanes(&self, data: &[u8], mut from: usize, to: usize) -> Option<usize> {
        while from <= to && to - from >= LANES * LANE {
            // Lane l looks at the positions from + l·LANE up to, not including, from + (l+1)·LANE.
            let lanes: [&[u8]; LANES] =
                std::array::from_fn(|l| &data[from + l * LANE - WINDOW..from + (l + 1) * LANE - 1]);
            let mut digests = lanes.map(|lane| self.window(&lane[..WINDOW]));
            let mut found = digests.map(|d| if d & MASK == 0 { 0 } else { LANE });
            for i in 0..LANE - 1 {
                for l in 0..LANES {
                    digests[l] = self.roll(digests[l], lanes[l][WINDOW + i], lanes[l][i]);
                    if digests[l] & MASK == 0 && found[l] == LANE {
                        found[l] = i + 1;
                    }
                }
                if found[0] != LANE {
                    break;
                }
            }
            if let Some(l) = found.iter().position(|f| *f != LANE) {
                return Some(from + l * LANE + found[l]);
            }
            from += LANES * LANE;
        }
        self.first(data, from, to)
    }
}
