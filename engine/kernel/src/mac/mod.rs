//! Poly1305 (Bernstein, "The Poly1305-AES message-authentication code", 2005): by the processor's 64-bit multiplication, and where it can
//! multiply eight numbers of 52 bits at once, by that (`wide`).
//!
//! Each block waits for the one before it, so that one chain of them leaves the processor idle half of the time, and vectors of 32-bit
//! multiplications are no faster. A message is Σ c(i)·r^(n-i), so its two halves can go side by side, each by the short r that is
//! clamped for cheap multiplication; in the end the first half's sum is multiplied by r^(blocks of the second half).

#[cfg(target_arch = "x86_64")]
mod wide;

use zeroize::Zeroize;

const BLOCK: usize = 16;

/// From here on two halves are worth the power of r that joins them.
const HALVED: usize = 4 << 10;

/// From here on eight lanes are worth the powers of r that they need.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 1 << 10;

/// A number below 2^131 or so, modulo 2^130 - 5: the lowest word first.
type Number = [u64; 3];

/// The clamped r, and r·5/4 of its upper word: what falls above 2^130 comes back five times at the bottom.
#[derive(Clone, Copy)]
struct Multiplier {
    r0: u64,
    r1: u64,
    s1: u64,
}

fn words(block: &[u8; BLOCK]) -> (u64, u64) {
    let both = u128::from_le_bytes(*block);
    (both as u64, (both >> 64) as u64)
}

impl Multiplier {
    /// `r` is clamped: its upper word is a multiple of 4, and neither word exceeds 2^60.
    fn new(r: &[u8; BLOCK]) -> Self {
        let (r0, r1) = words(r);
        Self { r0, r1, s1: r1 + (r1 >> 2) }
    }

    /// (h + block + top·2^128) · r. `h` has at most 4 in its uppermost word, and so has what comes out.
    #[inline(always)]
    fn step(self, h: Number, (low, high): (u64, u64), top: u64) -> Number {
        let Self { r0, r1, s1 } = self;
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let a0 = u128::from(h[0]) + u128::from(low);
        let a1 = u128::from(h[1]) + u128::from(high) + (a0 >> 64);
        let (h0, h1, h2) = (a0 as u64, a1 as u64, h[2] + top + (a1 >> 64) as u64);
        // h2 is at most 6 and all of r, s below 2^61, so that nothing here overflows.
        let d0 = product(h0, r0) + product(h1, s1);
        let d1 = product(h0, r1) + product(h1, r0) + u128::from(h2 * s1) + (d0 >> 64);
        let d2 = h2 * r0 + (d1 >> 64) as u64;
        let b0 = u128::from(d0 as u64) + u128::from((d2 >> 2) + (d2 & !3));
        let b1 = u128::from(d1 as u64) + (b0 >> 64);
        [b0 as u64, b1 as u64, (d2 & 3) + (b1 >> 64) as u64]
    }

    /// Adds the last whole blocks to `h`, and what is left of the message, and is overwritten.
    fn end(mut self, mut h: Number, blocks: &[[u8; BLOCK]], message: &[u8]) -> Number {
        for block in blocks {
            h = self.step(h, words(block), 1);
        }
        let tail = message.as_chunks::<BLOCK>().1;
        if !tail.is_empty() {
            let mut last = [0; BLOCK];
            last[..tail.len()].copy_from_slice(tail);
            last[tail.len()] = 1;
            h = self.step(h, words(&last), 0);
        }
        self.r0.zeroize();
        self.r1.zeroize();
        self.s1.zeroize();
        h
    }

    /// r to a power.
    fn power(self, mut exponent: usize) -> Number {
        let (mut power, mut square) = ([1, 0, 0], [self.r0, self.r1, 0]);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = multiply(power, square);
            }
            square = multiply(square, square);
            exponent >>= 1;
        }
        power
    }
}

/// Any two numbers with at most 7 in their uppermost words; at most 4 comes out there.
fn multiply(a: Number, b: Number) -> Number {
    let mut product = [0u64; 6];
    for i in 0..3 {
        let mut carry = 0u128;
        for j in 0..3 {
            carry += u128::from(a[i]) * u128::from(b[j]) + u128::from(product[i + j]);
            product[i + j] = carry as u64;
            carry >>= 64;
        }
        product[i + 3] = carry as u64;
    }
    // What is above 2^130 comes back five times.
    let [p0, p1, p2, p3, p4, _] = product;
    let above = [p2 >> 2 | p3 << 62, p3 >> 2 | p4 << 62, p4 >> 2];
    let (mut sum, mut carry) = ([p0, p1, p2 & 3], 0u128);
    for (word, above) in sum.iter_mut().zip(above) {
        carry += u128::from(*word) + 5 * u128::from(above);
        *word = carry as u64;
        carry >>= 64;
    }
    let back = u128::from(sum[0]) + 5 * u128::from(sum[2] >> 2);
    let next = u128::from(sum[1]) + (back >> 64);
    [back as u64, next as u64, (sum[2] & 3) + (next >> 64) as u64]
}

fn add(a: Number, b: Number) -> Number {
    let s0 = u128::from(a[0]) + u128::from(b[0]);
    let s1 = u128::from(a[1]) + u128::from(b[1]) + (s0 >> 64);
    [s0 as u64, s1 as u64, a[2] + b[2] + (s1 >> 64) as u64]
}

/// Two runs of equally many blocks side by side.
fn run_both(multiplier: Multiplier, first: &[[u8; BLOCK]], second: &[[u8; BLOCK]]) -> [Number; 2] {
    first.iter().zip(second).fold([[0; 3]; 2], |[a, b], (block_a, block_b)| {
        [multiplier.step(a, words(block_a), 1), multiplier.step(b, words(block_b), 1)]
    })
}

/// The tag of a message by the clamped `r` and by `pad`, which must serve for one message only.
pub fn poly1305(r: &[u8; BLOCK], pad: &[u8; BLOCK], message: &[u8]) -> [u8; BLOCK] {
    #[cfg(target_arch = "x86_64")]
    if message.len() >= WIDE && wide::available() {
        let multiplier = Multiplier::new(r);
        let (groups, rest) = message.as_chunks::<BLOCK>().0.as_chunks::<{ wide::LANES }>();
        let mut powers = [[multiplier.r0, multiplier.r1, 0]; wide::LANES];
        for i in 1..powers.len() {
            powers[i] = multiply(powers[i - 1], powers[0]);
        }
        // SAFETY: the processor has the instructions.
        let h = unsafe { wide::run(&powers, groups) };
        powers.zeroize();
        return finish(multiplier.end(h, rest, message), pad);
    }
    finish(by_halves(r, message), pad)
}

/// Sums a message up, not yet reduced.
fn by_halves(r: &[u8; BLOCK], message: &[u8]) -> Number {
    let multiplier = Multiplier::new(r);
    let (mut blocks, _) = message.as_chunks::<BLOCK>();
    let mut h = [0; 3];
    if message.len() >= HALVED {
        let half = blocks.len() / 2;
        let (first, rest) = blocks.split_at(half);
        let (second, rest) = rest.split_at(half);
        let [a, b] = run_both(multiplier, first, second);
        h = multiply(add(multiply(a, multiplier.power(half)), b), [1, 0, 0]);
        blocks = rest;
    }
    multiplier.end(h, blocks, message)
}

/// The lowest number that is the same modulo 2^130 - 5, plus the pad, in its lowest 128 bits.
fn finish(h: Number, pad: &[u8; BLOCK]) -> [u8; BLOCK] {
    // At most 4 in the uppermost word is at most one 2^130 too many.
    let h = multiply(h, [1, 0, 0]);
    let plus_five = add(h, [5, 0, 0]);
    // All ones where h is at least 2^130 - 5: no branch by secrets.
    let beyond = (plus_five[2] >> 2 & 1).wrapping_neg();
    let pick = |i: usize| h[i] & !beyond | plus_five[i] & beyond;
    let number = u128::from(pick(0)) | u128::from(pick(1)) << 64;
    number.wrapping_add(u128::from_le_bytes(*pad)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use poly1305::Poly1305;
    use poly1305::universal_hash::KeyInit;

    use super::*;
    use crate::chunker::tests::noise;
    use crate::timing::speed;

    fn clamped(mut r: [u8; 16]) -> [u8; 16] {
        [3, 7, 11, 15].iter().for_each(|i| r[*i] &= 15);
        [4, 8, 12].iter().for_each(|i| r[*i] &= 252);
        r
    }

    fn plain(r: &[u8; 16], pad: &[u8; 16], message: &[u8]) -> [u8; 16] {
        let key: [u8; 32] = [*r, *pad].concat().try_into().unwrap();
        Poly1305::new(&key.into()).compute_unpadded(message).into()
    }

    /// Keys and messages that are random, and those where every carry happens or none.
    #[test]
    fn same_tags_as_another_implementation() {
        let random = noise(70_000, 17);
        let key = |at: usize| -> [u8; 16] { random[at..at + 16].try_into().unwrap() };
        let keys = [key(0), key(16), key(32), [0xff; 16], [0; 16], [1; 16], [4; 16]].map(clamped);
        let lengths = (0..200)
            .chain(1000..1300)
            .chain([4079, 4080, 4095, 4096, 4097, 4111, 4112, 4113, 4127, 4128, 65_535, 65_536, 69_999]);
        let lengths: Vec<usize> = lengths.collect();
        for r in &keys {
            for pad in [key(64), [0xff; 16], [0; 16]] {
                for message in [&random[..], &[0xff; 70_000], &[0; 70_000]] {
                    for length in &lengths {
                        let message = &message[..*length];
                        let expected = plain(r, &pad, message);
                        assert_eq!(poly1305(r, &pad, message), expected, "{r:?} {pad:?} {length}");
                        assert_eq!(finish(by_halves(r, message), &pad), expected, "{r:?} {pad:?} {length}");
                    }
                }
            }
        }
    }

    /// RFC 8439, A.3, test vectors 7 to 11: sums at and beyond 2^130 - 5.
    #[test]
    fn sums_near_the_modulus() {
        let ones = [0xff; 16];
        let (mut one, mut two) = ([0; 16], [0; 16]);
        (one[0], two[0]) = (1, 2);
        let mut f0 = ones;
        f0[0] = 0xf0;
        let mut eleven = [0; 16];
        eleven[0] = 0x11;
        let message = |blocks: &[[u8; 16]]| blocks.concat();
        let tag = |first: u8| {
            let mut tag = [0; 16];
            tag[0] = first;
            tag
        };
        assert_eq!(poly1305(&one, &[0; 16], &message(&[ones, f0, eleven])), tag(5));
        let (mut fb, mut fd) = ([0xfe; 16], ones);
        (fb[0], fd[0]) = (0xfb, 0xfd);
        assert_eq!(poly1305(&one, &[0; 16], &message(&[ones, fb, [1; 16]])), tag(0));
        let mut fa = ones;
        fa[0] = 0xfa;
        assert_eq!(poly1305(&two, &[0; 16], &message(&[fd])), fa);
    }

    #[test]
    fn numbers_are_multiplied_as_by_repeated_steps() {
        let r = clamped(noise(16, 3).try_into().unwrap());
        let multiplier = Multiplier::new(&r);
        let mut h = [1, 0, 0];
        for n in 0..300 {
            assert_eq!(finish(multiplier.power(n), &[0; 16]), finish(h, &[0; 16]), "{n}");
            h = multiplier.step(h, (0, 0), 0);
        }
    }

    /// `cargo test --release --no-default-features -- --ignored --nocapture mac::tests::speeds`
    #[test]
    #[ignore = "prints how fast it is"]
    fn speeds() {
        let r = clamped([0x5a; 16]);
        for length in [500, 1024, 2048, 4000, 16 << 10, 1 << 20] {
            let message = noise(length, 9);
            let rounds = (256 << 20) / length;
            let halves = |r: &[u8; 16], pad: &[u8; 16], message: &[u8]| finish(by_halves(r, message), pad);
            type Tag<'a> = &'a dyn Fn(&[u8; 16], &[u8; 16], &[u8]) -> [u8; 16];
            let ways: [(&str, Tag<'_>); 3] = [("ours", &poly1305), ("halves", &halves), ("other", &plain)];
            for (name, tag) in ways {
                let speed = speed(rounds, length, || {
                    std::hint::black_box(tag(&r, &[7; 16], std::hint::black_box(&message)));
                });
                println!("{name} {length}: {speed:.2} GB/s");
            }
        }
    }
}
