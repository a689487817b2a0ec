//! What the ways that look at many windows at once have in common: the linear maps that they hold as byte planes, and the walk.
//!
//! Digests are held times x^3, so that their 53 bits fill seven bytes.

use crate::polynomial::{DEGREE, modulo};

use super::WINDOW;

/// What bytes add to a digest of one polynomial. Each map is linear over GF(2).
#[derive(Clone, Copy)]
pub struct Maps {
    polynomial: u64,
}

impl Maps {
    pub fn new(polynomial: u64) -> Self {
        Self { polynomial }
    }

    /// What the byte that falls out of the digest's top adds: t·x^53 mod P.
    pub fn reduce(self, top: u64) -> u64 {
        self.fresh(modulo(top << DEGREE, self.polynomial))
    }

    /// What the byte that leaves the window adds: b·x^(8·64) mod P.
    pub fn out(self, byte: u64) -> u64 {
        self.fresh((0..WINDOW).fold(byte, |digest, _| modulo(digest << 8, self.polynomial)))
    }

    /// What the new byte adds.
    pub fn fresh(self, byte: u64) -> u64 {
        byte << 3
    }
}

/// The first n in from..=to such that a cut is allowed after `data[..n]`; `from` is greater than `WINDOW`. As an error the place
/// from which on nothing was looked at: less than `lanes` · `block` before `to`.
///
/// `look` is given a stretch and the length of its `lanes` lanes, a positive multiple of `block` of at most `longest`: it looks at
/// the positions after each byte of the stretch but for its first 64, and gives the first one, counted from there.
pub fn first(
    data: &[u8],
    (from, to): (usize, usize),
    (lanes, block, longest): (usize, usize, usize),
    look: impl Fn(&[u8], usize) -> Option<usize>,
) -> Result<usize, usize> {
    let mut before = from - 1;
    while before < to {
        let lane = longest.min((to - before) / lanes / block * block);
        if lane == 0 {
            break;
        }
        if let Some(found) = look(&data[before - WINDOW..before + lanes * lane], lane) {
            return Ok(before + found);
        }
        before += lanes * lane;
    }
    Err(before + 1)
}
