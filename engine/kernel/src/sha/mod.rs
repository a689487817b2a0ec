//! SHA-256.

#[cfg(target_arch = "x86_64")]
mod lanes;

use sha2::{Digest, Sha256};

use crate::id::Id;

/// The SHA-256 of `data` as an id.
pub fn sha256(data: &[u8]) -> Id {
    Id(Sha256::digest(data).into())
}

/// The SHA-256 of each message, in their order; where the processor can, two at a time.
pub fn sha256_each(messages: &[&[u8]]) -> Vec<Id> {
    #[cfg(target_arch = "x86_64")]
    if messages.len() > 1 && lanes::available() {
        // SAFETY: the processor has the instructions.
        return unsafe { lanes::each(messages) };
    }
    messages.iter().map(|message| sha256(message)).collect()
}

/// SHA-256 of what comes in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub fn finish(self) -> Id {
        Id(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        assert_eq!(sha256(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let mut pieces = Hasher::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), sha256(b"abc"));
    }

    #[test]
    fn messages_of_all_lengths_at_once() {
        let data: Vec<u8> = (0..3000).map(|i| (i * 7 % 251) as u8).collect();
        let lengths = (0..300).chain([1023, 1024, 1025, 3000, 0, 64, 63, 55, 56, 57, 119, 120, 121, 128]);
        let messages: Vec<&[u8]> = lengths.map(|n| &data[data.len() - n..]).collect();
        let expected: Vec<Id> = messages.iter().map(|m| sha256(m)).collect();
        for count in [0, 1, 2, 3, messages.len()] {
            assert_eq!(sha256_each(&messages[..count]), expected[..count]);
        }
        let mut backwards = messages.clone();
        backwards.reverse();
        assert!(sha256_each(&backwards).iter().eq(expected.iter().rev()));
        #[cfg(target_arch = "x86_64")]
        if lanes::available() {
            // SAFETY: the processor has the instructions.
            assert_eq!(unsafe { lanes::each(&messages[5..6]) }, expected[5..6]);
        }
    }
}
