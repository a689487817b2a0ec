//! Poly1305 of eight blocks at once, by the processor's multiplication of 52-bit numbers (AVX-512 IFMA).
//!
//! A number modulo 2^130 - 5 is three limbs of 44, 44 and 42 bits, eight numbers three registers. Each lane takes every eighth block
//! and multiplies by r^8; with the last blocks it multiplies by as much as its blocks still lack, so that the lanes' sum is the whole.

use std::arch::x86_64::*;

use zeroize::Zeroize;

use super::{BLOCK, Number};

pub const LANES: usize = 8;

const LIMB: u32 = 44;
const LIMB_MASK: u64 = (1 << LIMB) - 1;
const TOP: u32 = 42;
const TOP_MASK: u64 = (1 << TOP) - 1;

/// The block of eight that each lane gets: how two registers of four blocks are taken apart.
const ORDER: [usize; LANES] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Whether this processor has the instructions.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
}

/// A factor for each lane, and 20 times its upper limbs: 2^132 is 20 modulo 2^130 - 5.
struct Factors {
    r: [__m512i; 3],
    s: [__m512i; 3],
}

impl Factors {
    #[target_feature(enable = "avx512f")]
    fn new(of_lane: impl Fn(usize) -> Number) -> Self {
        let mut limbs = [[0u64; LANES]; 3];
        let [limbs_0, limbs_1, limbs_2] = &mut limbs;
        for (lane, ((limb_0, limb_1), limb_2)) in limbs_0.iter_mut().zip(limbs_1).zip(limbs_2).enumerate() {
            let [low, middle, high] = of_lane(lane);
            *limb_0 = low & LIMB_MASK;
            *limb_1 = (low >> LIMB | middle << (64 - LIMB)) & LIMB_MASK;
            *limb_2 = middle >> (2 * LIMB - 64) | high << (128 - 2 * LIMB);
        }
        // SAFETY: these are eight words each.
        let load = |words: &[u64; LANES]| unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        let r = [load(&limbs[0]), load(&limbs[1]), load(&limbs[2])];
        limbs.iter_mut().flatten().for_each(|limb| *limb *= 20);
        let s = [load(&limbs[0]), load(&limbs[1]), load(&limbs[2])];
        limbs.zeroize();
        Self { r, s }
    }
}

/// The lanes' numbers plus a block each, times a factor each. Limbs come out below 2^44, 2^44 + 2^9 and 2^42, so that with the block they
/// are below 2^46; those of factors are below 2^44, those of `s` below 2^49: no product of 52 bits each is cut, and no sum overflows.
#[target_feature(enable = "avx512f,avx512ifma")]
fn step(h: [__m512i; 3], blocks: &[[u8; BLOCK]; LANES], factors: &Factors) -> [__m512i; 3] {
    let mask = _mm512_set1_epi64(LIMB_MASK as i64);
    let bytes = blocks.as_ptr().cast::<u8>();
    // SAFETY: eight blocks are twice the 64 bytes of a register.
    let (a, b) = unsafe { (_mm512_loadu_si512(bytes.cast()), _mm512_loadu_si512(bytes.add(64).cast())) };
    let (low, high) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let middle = _mm512_or_si512(_mm512_srli_epi64::<LIMB>(low), _mm512_slli_epi64::<{ 64 - LIMB }>(high));
    let one = _mm512_set1_epi64(1 << (128 - 2 * LIMB));
    let top = _mm512_or_si512(_mm512_srli_epi64::<{ 2 * LIMB - 64 }>(high), one);
    let h = [
        _mm512_add_epi64(h[0], _mm512_and_si512(low, mask)),
        _mm512_add_epi64(h[1], _mm512_and_si512(middle, mask)),
        _mm512_add_epi64(h[2], top),
    ];
    let Factors { r, s } = factors;
    let zero = _mm512_setzero_si512();
    // The lower and the upper 52 bits of the products that belong to each limb, the upper ones 2^52 above it.
    let (mut lower, mut upper) = ([zero; 3], [zero; 3]);
    for i in 0..3 {
        let by = [[r[0], s[2], s[1]], [r[1], r[0], s[2]], [r[2], r[1], r[0]]][i];
        for j in 0..3 {
            lower[i] = _mm512_madd52lo_epu64(lower[i], h[j], by[j]);
            upper[i] = _mm512_madd52hi_epu64(upper[i], h[j], by[j]);
        }
    }
    let h0 = _mm512_and_si512(lower[0], mask);
    let up = _mm512_add_epi64(_mm512_srli_epi64::<LIMB>(lower[0]), _mm512_slli_epi64::<{ 52 - LIMB }>(upper[0]));
    let sum = _mm512_add_epi64(lower[1], up);
    let h1 = _mm512_and_si512(sum, mask);
    let up = _mm512_add_epi64(_mm512_srli_epi64::<LIMB>(sum), _mm512_slli_epi64::<{ 52 - LIMB }>(upper[1]));
    let sum = _mm512_add_epi64(lower[2], up);
    let h2 = _mm512_and_si512(sum, _mm512_set1_epi64(TOP_MASK as i64));
    // What is above 2^130 comes back five times.
    let up = _mm512_add_epi64(_mm512_srli_epi64::<TOP>(sum), _mm512_slli_epi64::<{ 52 - TOP }>(upper[2]));
    let h0 = _mm512_add_epi64(h0, _mm512_add_epi64(up, _mm512_slli_epi64::<2>(up)));
    let h1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<LIMB>(h0));
    [_mm512_and_si512(h0, mask), h1, h2]
}

/// What the blocks add up to: the first times r^n, the last times r. `powers` are r to r^8, with at most 4 in their uppermost words, and
/// so has what comes out. There is at least one group of blocks.
///
/// # Safety
/// `available` was true.
#[target_feature(enable = "avx512f,avx512ifma")]
pub unsafe fn run(powers: &[Number; LANES], groups: &[[[u8; BLOCK]; LANES]]) -> Number {
    let mut h = [_mm512_setzero_si512(); 3];
    let Some((last, others)) = groups.split_last() else { return [0; 3] };
    if !others.is_empty() {
        let all = Factors::new(|_| powers[LANES - 1]);
        for group in others {
            h = step(h, group, &all);
        }
    }
    h = step(h, last, &Factors::new(|lane| powers[LANES - 1 - ORDER[lane]]));
    let [mut low, middle, high] = h.map(|limb| _mm512_reduce_add_epi64(limb) as u64);
    let middle = middle + (low >> LIMB);
    let high = high + (middle >> LIMB);
    low = (low & LIMB_MASK) + 5 * (high >> TOP);
    let (middle, high) = (middle & LIMB_MASK, high & TOP_MASK);
    let lower = u128::from(low) + (u128::from(middle) << LIMB);
    let upper = u128::from(high) << (2 * LIMB - 64);
    let upper = upper + (lower >> 64);
    [lower as u64, upper as u64, (upper >> 64) as u64]
}
