//! SHA-256 of several messages by the processor's SHA instructions, two at a time.
//!
//! Each of these instructions waits for the one before it, so that one message leaves the processor idle half of the time. Two
//! messages that take turns fill it; with three it is no faster, where the instructions can start at every second cycle.

use std::arch::x86_64::*;

use crate::id::Id;

const BLOCK: usize = 64;
const LANES: usize = 2;

/// The rounds' constants (FIPS 180-4, 4.2.2).
#[repr(align(16))]
struct Constants([u32; 64]);

static K: Constants = Constants([
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
]);

/// The state before the first block (5.3.3), as the instructions want it: F E B A and H G D C from the lowest word on.
const START: [[u32; 4]; 2] =
    [[0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667], [0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372]];

/// How far a message was hashed: its whole blocks up to `at`, and the state after them.
#[derive(Clone, Copy)]
pub struct Begun {
    state: [[u32; 4]; 2],
    at: usize,
}

impl Default for Begun {
    fn default() -> Self {
        Self { state: START, at: 0 }
    }
}

/// Whether this processor has the instructions.
pub fn available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

/// One message on its way.
struct Lane<'m> {
    number: usize,
    state: [__m128i; 2],
    rest: &'m [u8],
    /// The last bytes and the padding: one or two blocks.
    end: [u8; 2 * BLOCK],
    /// How far `end` was worked on; None before the whole blocks are done.
    at: Option<usize>,
    end_length: usize,
}

impl<'m> Lane<'m> {
    #[target_feature(enable = "sse2")]
    fn new(number: usize, message: &'m [u8], begun: Begun) -> Self {
        let tail = &message[message.len() / BLOCK * BLOCK..];
        let mut end = [0; 2 * BLOCK];
        end[..tail.len()].copy_from_slice(tail);
        end[tail.len()] = 0x80;
        let end_length = if tail.len() < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
        end[end_length - 8..end_length].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
        // SAFETY: these are four words each.
        let state = begun.state.map(|words| unsafe { _mm_loadu_si128(words.as_ptr().cast()) });
        let rest = &message[begun.at..message.len() - tail.len()];
        Self { number, state, rest, end, at: if rest.is_empty() { Some(0) } else { None }, end_length }
    }

    /// The blocks that come next.
    fn next(&self) -> &[u8] {
        match self.at {
            None => self.rest,
            Some(at) => &self.end[at..self.end_length],
        }
    }

    /// So many bytes were worked on; whether that was all.
    fn advance(&mut self, bytes: usize) -> bool {
        match &mut self.at {
            None => {
                self.rest = &self.rest[bytes..];
                if self.rest.is_empty() {
                    self.at = Some(0);
                }
                false
            }
            Some(at) => {
                *at += bytes;
                *at == self.end_length
            }
        }
    }

    /// The state, the lowest word first.
    #[target_feature(enable = "sse2")]
    fn words(&self) -> [[u32; 4]; 2] {
        let mut words = [[0u32; 4]; 2];
        for (out, state) in words.iter_mut().zip(&self.state) {
            // SAFETY: four words are written to four words.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), *state) };
        }
        words
    }

    #[target_feature(enable = "sse2")]
    fn digest(&self) -> Id {
        let [[f, e, b, a], [h, g, d, c]] = self.words();
        let mut digest = [0; 32];
        for (out, word) in digest.chunks_exact_mut(4).zip([a, b, c, d, e, f, g, h]) {
            out.copy_from_slice(&word.to_be_bytes());
        }
        Id(digest)
    }
}

/// The digests of all messages, in their order, each from where it was begun; and that of `along` where it came to its end. Of it only
/// so much is done as takes turns with the others.
///
/// # Safety
/// `available` was true.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub unsafe fn each(messages: &[(&[u8], Begun)], mut along: Option<(&[u8], &mut Begun)>) -> (Vec<Id>, Option<Id>) {
    let mut digests = vec![Id([0; 32]); messages.len()];
    let mut digest_along = None;
    let mut waiting = messages.iter().enumerate();
    let mut lanes: Vec<Lane> = Vec::with_capacity(LANES);
    if let Some((message, begun)) = &along {
        lanes.push(Lane::new(messages.len(), message, **begun));
    }
    loop {
        while lanes.len() < LANES {
            let Some((number, (message, begun))) = waiting.next() else { break };
            lanes.push(Lane::new(number, message, *begun));
        }
        if let ([alone], Some((message, begun))) = (&lanes[..], &mut along)
            && alone.number == messages.len()
            && !alone.rest.is_empty()
        {
            let at = message.len() / BLOCK * BLOCK - alone.rest.len();
            **begun = Begun { state: alone.words(), at };
            break;
        }
        let Some(bytes) = lanes.iter().map(|l| l.next().len()).min() else { break };
        if let [one, two] = &mut lanes[..] {
            let mut states = [one.state, two.state];
            blocks(&mut states, [&one.next()[..bytes], &two.next()[..bytes]]);
            [one.state, two.state] = states;
        } else {
            let mut states = [lanes[0].state];
            blocks(&mut states, [&lanes[0].next()[..bytes]]);
            [lanes[0].state] = states;
        }
        for i in (0..lanes.len()).rev() {
            if lanes[i].advance(bytes) {
                let digest = lanes[i].digest();
                match digests.get_mut(lanes[i].number) {
                    Some(place) => *place = digest,
                    None => digest_along = Some(digest),
                }
                lanes.swap_remove(i);
            }
        }
    }
    (digests, digest_along)
}

/// Works on as many blocks as the data have, which are of one length.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn blocks<const N: usize>(states: &mut [[__m128i; 2]; N], data: [&[u8]; N]) {
    let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut a: [__m128i; N] = states.map(|s| s[0]);
    let mut c: [__m128i; N] = states.map(|s| s[1]);
    let mut streams = data.map(|d| d.chunks_exact(BLOCK));
    'blocks: loop {
        let (before_a, before_c) = (a, c);
        let mut m = [[_mm_setzero_si128(); 4]; N];
        for l in 0..N {
            let Some(block) = streams[l].next() else { break 'blocks };
            for (i, part) in block.chunks_exact(16).enumerate() {
                // SAFETY: the part has 16 bytes.
                m[l][i] = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(part.as_ptr().cast()) }, big_endian);
            }
        }
        // Four rounds of each lane. All indices are constants, so that the words stay in registers.
        macro_rules! rounds {
            ($g:expr, $i:literal $(, $next:literal, $third:literal, $last:literal)?) => {
                // SAFETY: the constants are 16 times four aligned words.
                let k = unsafe { _mm_load_si128(K.0.as_ptr().add(4 * $g).cast()) };
                for l in 0..N {
                    let w = _mm_add_epi32(m[l][$i], k);
                    c[l] = _mm_sha256rnds2_epu32(c[l], a[l], w);
                    a[l] = _mm_sha256rnds2_epu32(a[l], c[l], _mm_shuffle_epi32::<0x0e>(w));
                    $(
                        let t = _mm_sha256msg1_epu32(m[l][$i], m[l][$next]);
                        let t = _mm_add_epi32(t, _mm_alignr_epi8::<4>(m[l][$last], m[l][$third]));
                        m[l][$i] = _mm_sha256msg2_epu32(t, m[l][$last]);
                    )?
                }
            };
        }
        for g in 0..3 {
            rounds!(4 * g, 0, 1, 2, 3);
            rounds!(4 * g + 1, 1, 2, 3, 0);
            rounds!(4 * g + 2, 2, 3, 0, 1);
            rounds!(4 * g + 3, 3, 0, 1, 2);
        }
        rounds!(12, 0);
        rounds!(13, 1);
        rounds!(14, 2);
        rounds!(15, 3);
        for l in 0..N {
            a[l] = _mm_add_epi32(a[l], before_a[l]);
            c[l] = _mm_add_epi32(c[l], before_c[l]);
        }
    }
    for l in 0..N {
        states[l] = [a[l], c[l]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::speed;

    /// `cargo test --release --no-default-features -- --ignored --nocapture speeds`
    #[test]
    #[ignore = "prints how fast the lanes are"]
    fn speeds() {
        let data = vec![7u8; 8 << 20];
        for count in [1, 2, 3] {
            let messages = vec![(&data[..], Begun::default()); count];
            // SAFETY: whoever asks for this test has such a processor.
            let speed = speed(20, count * data.len(), || drop(unsafe { each(&messages, None) }));
            println!("{count} at a time: {speed:.2} GB/s");
        }
    }
}
