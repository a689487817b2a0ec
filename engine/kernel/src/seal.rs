//! Sealing: AES-256 in counter mode, then Poly1305-AES over the ciphertext (restic-format 1.4).
//!
//! A sealed item is IV (16 bytes), ciphertext, MAC (16 bytes). The MAC covers the ciphertext only; its one-time key is r and
//! AES-128 of the IV under k (Bernstein, "The Poly1305-AES message-authentication code", 2005).

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256Enc, Block};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};
use crate::mac::poly1305;

/// How many bytes longer a sealed item is than its plaintext.
pub const OVERHEAD: usize = IV + MAC;
/// How many of them come before the ciphertext.
pub const BEFORE: usize = IV;
const IV: usize = 16;
const MAC: usize = 16;
const BLOCK: usize = 16;
/// How many blocks of key stream are made at a time: they stay in the processor's first cache.
const STREAM: usize = 256;

/// The repository's master key, ready for use: to expand it for each small blob would cost more than to seal that. Its parts are
/// overwritten when it goes.
#[derive(Clone)]
pub struct Key {
    encrypt: Aes256Enc,
    mac_k: Aes128Enc,
    mac_r: Zeroizing<[u8; 16]>,
}

fn exactly<const N: usize>(bytes: &[u8], name: &str) -> Result<[u8; N]> {
    let array: [u8; N] =
        bytes.try_into().map_err(|_| Error::invalid(format!("{name} has {} bytes instead of {N}", bytes.len())))?;
    if array.iter().all(|b| *b == 0) {
        return Err(Error::invalid(format!("{name} is all zero, which no key is")));
    }
    Ok(array)
}

/// Poly1305 ignores these bits of r; some writers store r with them, some without.
fn clamp(r: &mut [u8; 16]) {
    for i in [3, 7, 11, 15] {
        r[i] &= 15;
    }
    for i in [4, 8, 12] {
        r[i] &= 252;
    }
}

/// The cipher of a counter of 128 bits, the most significant byte first, that starts at an IV.
struct KeyStream<'k> {
    cipher: &'k Aes256Enc,
    counter: u128,
    blocks: [Block; STREAM],
}

impl<'k> KeyStream<'k> {
    fn new(cipher: &'k Aes256Enc, iv: &[u8; IV]) -> Self {
        Self { cipher, counter: u128::from_be_bytes(*iv), blocks: [Block::default(); STREAM] }
    }

    /// The blocks for the next `length` bytes, of which there are at most `STREAM` blocks.
    fn next(&mut self, length: usize) -> &[Block] {
        let blocks = &mut self.blocks[..length.div_ceil(BLOCK)];
        for block in blocks.iter_mut() {
            *block = self.counter.to_be_bytes().into();
            self.counter = self.counter.wrapping_add(1);
        }
        self.cipher.encrypt_blocks(blocks);
        blocks
    }
}

impl Key {
    /// Takes 32, 16 and 16 bytes; none of the three may be all zero.
    pub fn new(encrypt: &[u8], mac_k: &[u8], mac_r: &[u8]) -> Result<Self> {
        let encrypt: Zeroizing<[u8; 32]> = exactly(encrypt, "the encryption key")?.into();
        let mac_k: Zeroizing<[u8; 16]> = exactly(mac_k, "the MAC key k")?.into();
        let mut mac_r: Zeroizing<[u8; 16]> = exactly(mac_r, "the MAC key r")?.into();
        clamp(&mut mac_r);
        Ok(Self { encrypt: Aes256Enc::new((&*encrypt).into()), mac_k: Aes128Enc::new((&*mac_k).into()), mac_r })
    }

    fn mac(&self, iv: &[u8; IV], ciphertext: &[u8]) -> [u8; MAC] {
        let mut nonce = (*iv).into();
        self.mac_k.encrypt_block(&mut nonce);
        let mut pad: [u8; MAC] = nonce.into();
        let tag = poly1305(&self.mac_r, &pad, ciphertext);
        pad.zeroize();
        tag
    }

    /// Puts the sealed form of `plaintext` into `out`, which must have `OVERHEAD` bytes more than it.
    pub fn seal_to(&self, plaintext: &[u8], out: &mut [u8]) -> Result<()> {
        self.seal_with(out, |iv, ciphertext| self.apply(iv, plaintext, ciphertext))
    }

    /// As `seal_to`, where the plaintext lies in `out` already, `BEFORE` bytes from its start.
    pub fn seal_in_place(&self, out: &mut [u8]) -> Result<()> {
        self.seal_with(out, |iv, text| self.apply_in_place(iv, text))
    }

    fn seal_with(&self, out: &mut [u8], encrypt: impl FnOnce(&[u8; IV], &mut [u8])) -> Result<()> {
        let mut iv = [0; IV];
        while iv == [0; IV] {
            getrandom::fill(&mut iv).map_err(|e| Error::system(format!("the system gives no random numbers: {e}")))?;
        }
        let end = out.len() - MAC;
        let (text, mac) = out.split_at_mut(end);
        text[..IV].copy_from_slice(&iv);
        encrypt(&iv, &mut text[IV..]);
        mac.copy_from_slice(&self.mac(&iv, &text[IV..]));
        Ok(())
    }

    /// Encrypts or decrypts from one buffer to another of the same length.
    fn apply(&self, iv: &[u8; IV], from: &[u8], to: &mut [u8]) {
        let mut keys = KeyStream::new(&self.encrypt, iv);
        for (from, to) in from.chunks(STREAM * BLOCK).zip(to.chunks_mut(STREAM * BLOCK)) {
            let keys = keys.next(from.len());
            let (from, from_end) = from.as_chunks::<BLOCK>();
            let (to, to_end) = to.as_chunks_mut::<BLOCK>();
            for ((from, to), key) in from.iter().zip(to).zip(keys) {
                *to = (u128::from_ne_bytes(*from) ^ u128::from_ne_bytes((*key).into())).to_ne_bytes();
            }
            for ((from, to), key) in from_end.iter().zip(to_end).zip(keys.iter().next_back().into_iter().flatten()) {
                *to = from ^ key;
            }
        }
    }

    /// As `apply`, where both are one.
    fn apply_in_place(&self, iv: &[u8; IV], text: &mut [u8]) {
        let mut keys = KeyStream::new(&self.encrypt, iv);
        for text in text.chunks_mut(STREAM * BLOCK) {
            let keys = keys.next(text.len());
            let (blocks, end) = text.as_chunks_mut::<BLOCK>();
            for (block, key) in blocks.iter_mut().zip(keys) {
                *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes((*key).into())).to_ne_bytes();
            }
            for (byte, key) in end.iter_mut().zip(keys.iter().next_back().into_iter().flatten()) {
                *byte ^= key;
            }
        }
    }

    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; plaintext.len() + OVERHEAD];
        self.seal_to(plaintext, &mut out)?;
        Ok(out)
    }

    /// Replaces `out` by the plaintext of `sealed`; leaves it as it is where that fails. The MAC is checked before anything is decrypted.
    pub fn unseal_into(&self, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let (iv, ciphertext) = self.checked(sealed)?;
        out.resize(ciphertext.len(), 0);
        self.apply(iv, ciphertext, out);
        Ok(())
    }

    /// As `unseal_into`, into memory that has the plaintext's length.
    pub fn unseal_to(&self, sealed: &[u8], out: &mut [u8]) -> Result<()> {
        let (iv, ciphertext) = self.checked(sealed)?;
        if out.len() != ciphertext.len() {
            return Err(Error::damaged(format!("it holds {} bytes instead of {}", ciphertext.len(), out.len())));
        }
        self.apply(iv, ciphertext, out);
        Ok(())
    }

    /// The IV and the ciphertext, once the MAC was found right.
    fn checked<'s>(&self, sealed: &'s [u8]) -> Result<(&'s [u8; IV], &'s [u8])> {
        let (Some((iv, rest)), true) = (sealed.split_first_chunk::<IV>(), sealed.len() >= OVERHEAD) else {
            return Err(Error::damaged(format!("{} bytes are too few for a sealed item", sealed.len())));
        };
        let (ciphertext, mac) = rest.split_at(rest.len() - MAC);
        if iv.iter().all(|b| *b == 0) || !bool::from(self.mac(iv, ciphertext).ct_eq(mac)) {
            return Err(Error::damaged("the MAC does not match: the bytes are damaged or sealed with another key"));
        }
        Ok((iv, ciphertext))
    }

    pub fn unseal(&self, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.unseal_into(sealed, &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use ctr::Ctr128BE;
    use ctr::cipher::{KeyIvInit, StreamCipher};

    use super::*;
    use crate::chunker::tests::noise;
    use crate::timing::speed;

    /// As `apply` of `key`, by another implementation.
    fn by_ctr(iv: &[u8; IV], from: &[u8], to: &mut [u8]) {
        Ctr128BE::<aes::Aes256>::new(&[3; 32].into(), &(*iv).into()).apply_keystream_b2b(from, to);
    }

    #[test]
    fn same_key_stream_as_another_implementation() {
        let data = noise(20_000, 5);
        let mut carries = [0xff; IV];
        carries[IV - 1] = 0xf0;
        for iv in [[1; IV], [0xff; IV], carries, noise(IV, 6).try_into().unwrap()] {
            for length in (0..70).chain([4079, 4080, 4095, 4096, 4097, 4111, 4112, 8191, 8192, 8193, 20_000]) {
                let (mut ours, mut other) = (vec![0; length], vec![0; length]);
                let mut in_place = data[..length].to_vec();
                key().apply(&iv, &data[..length], &mut ours);
                key().apply_in_place(&iv, &mut in_place);
                by_ctr(&iv, &data[..length], &mut other);
                assert_eq!((&ours, &in_place), (&other, &other), "{iv:?} {length}");
            }
        }
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let mut out = [0; N];
        for (i, b) in out.iter_mut().enumerate() {
            *b = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
        }
        out
    }

    /// Appendix B of Bernstein's paper.
    #[test]
    fn poly1305_aes_vectors() {
        let vectors: [(&[u8], &str, &str, &str, &str); 4] = [
            (
                &hex::<2>("f3f6"),
                "851fc40c3467ac0be05cc20404f3f700",
                "ec074c835580741701425b623235add6",
                "fb447350c4e868c52ac3275cf9d4327e",
                "f4c633c3044fc145f84f335cb81953de",
            ),
            (
                &[],
                "a0f3080000f46400d0c7e9076c834403",
                "75deaa25c09f208e1dc4ce6b5cad3fbf",
                "61ee09218d29b0aaed7e154a2c5509cc",
                "dd3fab2251f11ac759f0887129cc2ee7",
            ),
            (
                &hex::<32>("663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136"),
                "48443d0bb0d21109c89a100b5ce2c208",
                "6acb5f61a7176dd320c5c1eb2edcdc74",
                "ae212a55399729595dea458bc621ff0e",
                "0ee1c16bb73f0f4fd19881753c01cdbe",
            ),
            (
                &hex::<63>(concat!(
                    "ab0812724a7f1e342742cbed374d94d136c6b8795d45b3819830f2c04491faf0",
                    "990c62e48b8018b2c3e4a0fa3134cb67fa83e158c994d961c4cb21095c1bf9"
                )),
                "12976a08c4426d0ce8a82407c4f48207",
                "e1a5668a4d5b66a5f68cc5424ed5982d",
                "9ae831e743978d3a23527c7128149e3a",
                "5154ad0d2cb26e01274fc51148491f1b",
            ),
        ];
        for (message, r, k, nonce, tag) in vectors {
            let key = Key::new(&[1; 32], &hex::<16>(k), &hex::<16>(r)).unwrap();
            assert_eq!(key.mac(&hex(nonce), message), hex(tag));
        }
    }

    fn key() -> Key {
        Key::new(&[3; 32], &[5; 16], &[255; 16]).unwrap()
    }

    #[test]
    fn seals_and_unseals() {
        for length in [0, 1, 15, 16, 17, 1000, 100_000] {
            let plaintext: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
            let sealed = key().seal(&plaintext).unwrap();
            assert_eq!(sealed.len(), length + OVERHEAD);
            assert_eq!(key().unseal(&sealed).unwrap(), plaintext);
        }
    }

    #[test]
    fn buffers_may_be_used_again() {
        let (mut sealed, mut plain, mut held) = (vec![9; 1000], vec![9; 2000], vec![9; 100]);
        for text in [&b"long enough to be longer than the next"[..], b"short", b"", b"longer again"] {
            let sealed = &mut sealed[..text.len() + OVERHEAD];
            key().seal_to(text, sealed).unwrap();
            key().unseal_into(sealed, &mut plain).unwrap();
            key().unseal_to(sealed, &mut held[..text.len()]).unwrap();
            assert_eq!((&plain[..], &held[..text.len()]), (text, text));
            assert!(matches!(key().unseal_to(sealed, &mut held[..text.len() + 1]), Err(Error::Damaged(_))));
            sealed[BEFORE..BEFORE + text.len()].copy_from_slice(text);
            key().seal_in_place(sealed).unwrap();
            assert_eq!(key().unseal(sealed).unwrap(), text);
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let sealed = key().seal(b"Hier ist ein Text").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(key().unseal(&bad), Err(Error::Damaged(_))), "bit {bit}");
        }
        for length in 0..OVERHEAD {
            assert!(key().unseal(&sealed[..length]).is_err());
        }
    }

    /// `cargo test --release --no-default-features -- --ignored --nocapture seal::tests::speeds`
    #[test]
    #[ignore = "prints how fast it is"]
    fn speeds() {
        let (from, mut to, key) = (vec![7; 1 << 20], vec![0; 1 << 20], key());
        for length in [500, 4000, 16 << 10, 256 << 10, 1 << 20] {
            let rounds = (512 << 20) / length;
            let ours = speed(rounds, length, || key.apply(&[9; 16], &from[..length], black_box(&mut to[..length])));
            let other = speed(rounds, length, || by_ctr(&[9; 16], &from[..length], black_box(&mut to[..length])));
            println!("{length}: {ours:.2} GB/s, by the crate {other:.2}");
        }
    }

    #[test]
    fn no_iv_twice() {
        assert_ne!(key().seal(b"x").unwrap()[..IV], key().seal(b"x").unwrap()[..IV]);
    }

    #[test]
    fn r_is_clamped_on_use() {
        let clamped = {
            let mut r = [255; 16];
            clamp(&mut r);
            Key::new(&[3; 32], &[5; 16], &r).unwrap()
        };
        assert_eq!(clamped.unseal(&key().seal(b"same").unwrap()).unwrap(), b"same");
    }

    #[test]
    fn refuses_keys_of_zeros_or_of_a_wrong_length() {
        assert!(Key::new(&[0; 32], &[5; 16], &[1; 16]).is_err());
        assert!(Key::new(&[1; 32], &[0; 16], &[1; 16]).is_err());
        assert!(Key::new(&[1; 32], &[5; 16], &[0; 16]).is_err());
        assert!(Key::new(&[1; 31], &[5; 16], &[1; 16]).is_err());
    }
}
