//! The fingerprint of 64 windows at once, for processors with AVX-512 and GFNI.
//!
//! The digests times x^3 lie in seven byte planes: register k holds byte k of all 64. So a shift by 8 is a renaming of planes, and
//! the byte that falls out is plane 6 as it is. What a byte that falls out or leaves the window adds is linear over GF(2), so for
//! each plane it is one affine instruction. The bytes come in by transposing 64 × 64 bytes, and what leaves is the block before.

use std::arch::x86_64::*;

use super::WINDOW;
use super::planes::{self, Maps};

/// The matrices, one per plane, in the order that the affine instruction wants.
#[derive(Clone)]
pub struct Sliced {
    /// What the byte that falls out adds: t·x^53 mod P.
    reduce: [u64; 7],
    /// What the byte that leaves the window adds: b·x^(8·64) mod P.
    out: [u64; 7],
    /// What the new byte adds, which reaches two planes only.
    new: [u64; 2],
}

const LANES: usize = 64;
const BLOCK: usize = 64;
/// The positions that one lane looks at; not near a multiple of 4096, where lanes would fight for the same places of the cache.
const LANE: usize = 1024 + BLOCK;

/// Plane `plane` of a linear map from bytes to digests, as the matrix of the affine instruction.
fn matrix(map: impl Fn(u64) -> u64, plane: usize) -> u64 {
    let mut rows = 0;
    for bit in 0..8 {
        let row = (0..8).filter(|i| map(1 << i) >> (8 * plane + bit) & 1 != 0).fold(0u64, |row, i| row | 1 << i);
        rows |= row << (8 * (7 - bit));
    }
    rows
}

impl Sliced {
    /// None where the processor lacks the instructions.
    pub fn new(polynomial: u64) -> Option<Self> {
        let able = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("gfni");
        let maps = Maps::new(polynomial);
        able.then(|| Self {
            reduce: std::array::from_fn(|k| matrix(|t| maps.reduce(t), k)),
            out: std::array::from_fn(|k| matrix(|b| maps.out(b), k)),
            new: std::array::from_fn(|k| matrix(|b| maps.fresh(b), k)),
        })
    }

    /// As `planes::first` has it: nothing was looked at from at most 4 KiB before `to` on.
    pub fn first(&self, data: &[u8], from: usize, to: usize) -> Result<usize, usize> {
        planes::first(data, (from, to), (LANES, BLOCK, LANE), |stretch, lane| {
            // SAFETY: `new` gives this object only where the processor has the instructions, and the stretch has its length.
            unsafe { self.stretch(stretch, lane) }
        })
    }

    /// Looks at the positions after each byte of `stretch` but for its first 64; gives the first one, counted from there.
    ///
    /// # Safety
    /// The processor has the features, `lane` is a positive multiple of 64, and `stretch` has 64 · `lane` + 64 bytes.
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    unsafe fn stretch(&self, stretch: &[u8], lane: usize) -> Option<usize> {
        assert!(lane.is_multiple_of(BLOCK) && stretch.len() == LANES * lane + WINDOW);
        let set = |m: u64| _mm512_set1_epi64(m.cast_signed());
        let (reduce, out) = (self.reduce.map(set), self.out.map(set));
        let (new0, new1) = (set(self.new[0]), set(self.new[1]));
        let (low, high) = (_mm512_set1_epi8(0xf8_u8.cast_signed()), _mm512_set1_epi8(0x7f));
        let mut d = [_mm512_setzero_si512(); 7];
        let mut blocks = [[_mm512_setzero_si512(); BLOCK]; 2];
        let mut first = usize::MAX;
        for block in 0..=lane / BLOCK {
            let (entering, leaving) = {
                let [a, b] = &mut blocks;
                if block % 2 == 0 { (a, b) } else { (b, a) }
            };
            // SAFETY: the last lane starts at 63 · lane, and the last block there ends at lane + 64: the stretch's end.
            unsafe { transpose(stretch.as_ptr().add(block * BLOCK), lane, entering) };
            for (t, (y, x)) in entering.iter().zip(leaving.iter()).enumerate() {
                let top = d[6];
                for k in (2..7).rev() {
                    d[k] = xor3(
                        d[k - 1],
                        _mm512_gf2p8affine_epi64_epi8::<0>(top, reduce[k]),
                        _mm512_gf2p8affine_epi64_epi8::<0>(*x, out[k]),
                    );
                }
                d[1] = _mm512_xor_si512(
                    xor3(
                        d[0],
                        _mm512_gf2p8affine_epi64_epi8::<0>(top, reduce[1]),
                        _mm512_gf2p8affine_epi64_epi8::<0>(*x, out[1]),
                    ),
                    _mm512_gf2p8affine_epi64_epi8::<0>(*y, new1),
                );
                d[0] = xor3(
                    _mm512_gf2p8affine_epi64_epi8::<0>(top, reduce[0]),
                    _mm512_gf2p8affine_epi64_epi8::<0>(*x, out[0]),
                    _mm512_gf2p8affine_epi64_epi8::<0>(*y, new0),
                );
                // The lowest 20 bits of the digest, which are bits 3 to 22 here: (d2 & 0x7f | d1) | (d0 & 0xf8).
                let rest =
                    _mm512_or_si512(_mm512_ternarylogic_epi64::<0xea>(d[2], high, d[1]), _mm512_and_si512(d[0], low));
                let hits = _mm512_testn_epi8_mask(rest, rest);
                // The first block only fills the windows.
                if hits != 0 && block > 0 {
                    // Within one step, a lower lane is an earlier place.
                    let l = hits.trailing_zeros() as usize;
                    first = first.min(l * lane + (block - 1) * BLOCK + t + 1);
                }
            }
        }
        (first != usize::MAX).then_some(first)
    }
}

#[target_feature(enable = "avx512f")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

/// 64 rows of 64 bytes, `stride` apart, into columns: byte l of `columns[t]` is byte t of row l.
///
/// # Safety
/// The processor has the features, and 63 · `stride` + 64 bytes can be read at `rows`.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn transpose(rows: *const u8, stride: usize, columns: &mut [__m512i; BLOCK]) {
    let mut groups = [[_mm512_setzero_si512(); 16]; 4];
    for (g, group) in groups.iter_mut().enumerate() {
        let mut r: [__m512i; 16] = std::array::from_fn(|i| {
            // SAFETY: row g · 16 + i is one of the 64 that the caller vouches for.
            unsafe { _mm512_loadu_si512(rows.add((g * 16 + i) * stride).cast()) }
        });
        // Four rounds of interleaving bytes of row i with those of row i + 8 transpose 16 rows within each 16 bytes.
        for _ in 0..4 {
            let s = r;
            for i in 0..8 {
                r[2 * i] = _mm512_unpacklo_epi8(s[i], s[i + 8]);
                r[2 * i + 1] = _mm512_unpackhi_epi8(s[i], s[i + 8]);
            }
        }
        *group = r;
    }
    for c in 0..16 {
        let a = _mm512_shuffle_i64x2::<0x44>(groups[0][c], groups[1][c]);
        let b = _mm512_shuffle_i64x2::<0x44>(groups[2][c], groups[3][c]);
        let d = _mm512_shuffle_i64x2::<0xee>(groups[0][c], groups[1][c]);
        let e = _mm512_shuffle_i64x2::<0xee>(groups[2][c], groups[3][c]);
        columns[c] = _mm512_shuffle_i64x2::<0x88>(a, b);
        columns[16 + c] = _mm512_shuffle_i64x2::<0xdd>(a, b);
        columns[32 + c] = _mm512_shuffle_i64x2::<0x88>(d, e);
        columns[48 + c] = _mm512_shuffle_i64x2::<0xdd>(d, e);
    }
}
