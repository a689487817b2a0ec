//! The fingerprint of 32 windows at once, for processors with AVX2.
//!
//! As `sliced` has it: seven byte planes hold the digests times x^3, so that a shift by 8 is a renaming of planes. What a byte adds is
//! linear over GF(2): the sum of what its two halves add, each of which is one look-up in a table of 16 bytes, by a shuffle.

use std::arch::x86_64::*;

use super::WINDOW;
use super::planes::{self, Maps};
use super::tables::Tables;

/// For each half of a byte, the lower one first, what its 16 values add to one plane.
type Halves = [[u8; 16]; 2];

#[derive(Clone)]
pub struct Shuffled {
    /// What the byte that falls out adds: t·x^53 mod P.
    reduce: [Halves; 7],
    /// What the byte that leaves the window adds: b·x^(8·64) mod P.
    out: [Halves; 7],
    /// What the new byte adds to the two planes that it reaches; its lower half reaches the first one only.
    new: [Halves; 2],
}

const LANES: usize = 32;
const BLOCK: usize = 32;
/// So many blocks before a byte enters, one enters the window's end: it leaves now.
const BLOCKS: usize = WINDOW / BLOCK;
/// The positions that one lane looks at; not near a multiple of 4096, where lanes would fight for the same places of the cache.
const LANE: usize = 1024 + 2 * BLOCK;

fn halves(map: impl Fn(u64) -> u64, plane: usize) -> Halves {
    let byte = |value: u64| (map(value) >> (8 * plane)) as u8;
    [std::array::from_fn(|low| byte(low as u64)), std::array::from_fn(|high| byte((high as u64) << 4))]
}

/// The bytes of all lanes at one place, in halves.
type Column = [__m256i; 2];

impl Shuffled {
    /// None where the processor lacks the instructions.
    pub fn new(polynomial: u64) -> Option<Self> {
        let maps = Maps::new(polynomial);
        is_x86_feature_detected!("avx2").then(|| Self {
            reduce: std::array::from_fn(|k| halves(|t| maps.reduce(t), k)),
            out: std::array::from_fn(|k| halves(|b| maps.out(b), k)),
            new: std::array::from_fn(|k| halves(|b| maps.fresh(b), k)),
        })
    }

    /// As `planes::first` has it: nothing was looked at from at most 1 KiB before `to` on. `tables` are those of the same polynomial.
    pub fn first(&self, tables: &Tables, data: &[u8], from: usize, to: usize) -> Result<usize, usize> {
        planes::first(data, (from, to), (LANES, BLOCK, LANE), |stretch, lane| {
            // SAFETY: `new` gives this object only where the processor has the instructions, and the stretch has its length.
            unsafe { self.stretch(tables, stretch, lane) }
        })
    }

    /// Looks at the positions after each byte of `stretch` but for its first 64; gives the first one, counted from there.
    ///
    /// # Safety
    /// The processor has AVX2, `lane` is a positive multiple of 32, and `stretch` has 32 · `lane` + 64 bytes.
    #[target_feature(enable = "avx2")]
    unsafe fn stretch(&self, tables: &Tables, stretch: &[u8], lane: usize) -> Option<usize> {
        assert!(lane.is_multiple_of(BLOCK) && stretch.len() == LANES * lane + WINDOW);
        let (nibble, zero, ones) = (_mm256_set1_epi8(0x0f), _mm256_setzero_si256(), _mm256_set1_epi8(-1));
        let (low, high) = (_mm256_set1_epi8(0xf8_u8.cast_signed()), _mm256_set1_epi8(0x7f));
        let mut d = [zero; 7];
        let mut ring = [[[zero; 2]; BLOCK]; BLOCKS];
        let mut first = usize::MAX;
        for block in 0..BLOCKS + lane / BLOCK {
            let mut entering = [zero; BLOCK];
            // SAFETY: the last lane starts at 31 · lane, and its last block ends at lane + 64 from there: the stretch's end.
            unsafe { transpose(stretch.as_ptr().add(block * BLOCK), lane, &mut entering) };
            let columns = &mut ring[block % BLOCKS];
            let mut least = ones;
            for (column, y) in columns.iter_mut().zip(entering) {
                let x = *column;
                let y: Column = [_mm256_and_si256(y, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(y), nibble)];
                *column = y;
                let top: Column =
                    [_mm256_and_si256(d[6], nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(d[6]), nibble)];
                for k in (1..7).rev() {
                    d[k] = xor(d[k - 1], xor(look_up(&self.reduce[k], top), look_up(&self.out[k], x)));
                }
                d[0] = xor(look_up(&self.reduce[0], top), look_up(&self.out[0], x));
                d[0] = xor(d[0], look_up(&self.new[0], y));
                d[1] = xor(d[1], _mm256_shuffle_epi8(table(&self.new[1][1]), y[1]));
                // The lowest 20 bits of the digest, which are bits 3 to 22 here.
                let rest = _mm256_or_si256(_mm256_and_si256(d[2], high), _mm256_and_si256(d[0], low));
                least = _mm256_min_epu8(least, _mm256_or_si256(rest, d[1]));
            }
            let hits = _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, zero)).cast_unsigned();
            // The first blocks only fill the windows.
            if hits != 0 && block >= BLOCKS {
                // A later lane's place is later than any of an earlier one; where in the block it is, the tables say.
                let at = hits.trailing_zeros() as usize * lane + (block - BLOCKS) * BLOCK;
                let found = tables.first(stretch, WINDOW + at + 1, WINDOW + at + BLOCK);
                first = first.min(found.map_or(usize::MAX, |found| found - WINDOW));
            }
        }
        (first != usize::MAX).then_some(first)
    }
}

#[target_feature(enable = "avx2")]
fn xor(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

#[target_feature(enable = "avx2")]
fn table(values: &[u8; 16]) -> __m256i {
    // SAFETY: sixteen bytes are read from sixteen bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(values.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
fn look_up(halves: &Halves, [low, high]: Column) -> __m256i {
    xor(_mm256_shuffle_epi8(table(&halves[0]), low), _mm256_shuffle_epi8(table(&halves[1]), high))
}

/// 32 rows of 32 bytes, `stride` apart, into columns: byte l of `columns[t]` is byte t of row l.
///
/// # Safety
/// The processor has AVX2, and 31 · `stride` + 32 bytes can be read at `rows`.
#[target_feature(enable = "avx2")]
unsafe fn transpose(rows: *const u8, stride: usize, columns: &mut [__m256i; BLOCK]) {
    let mut groups = [[_mm256_setzero_si256(); 16]; 2];
    for (g, group) in groups.iter_mut().enumerate() {
        let mut r: [__m256i; 16] = std::array::from_fn(|i| {
            // SAFETY: row g · 16 + i is one of the 32 that the caller vouches for.
            unsafe { _mm256_loadu_si256(rows.add((g * 16 + i) * stride).cast()) }
        });
        // Four rounds of interleaving bytes of row i with those of row i + 8 transpose 16 rows within each 16 bytes.
        for _ in 0..4 {
            let s = r;
            for i in 0..8 {
                r[2 * i] = _mm256_unpacklo_epi8(s[i], s[i + 8]);
                r[2 * i + 1] = _mm256_unpackhi_epi8(s[i], s[i + 8]);
            }
        }
        *group = r;
    }
    for c in 0..16 {
        columns[c] = _mm256_permute2x128_si256::<0x20>(groups[0][c], groups[1][c]);
        columns[16 + c] = _mm256_permute2x128_si256::<0x31>(groups[0][c], groups[1][c]);
    }
}
