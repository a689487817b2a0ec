//! SHA-256.

#[cfg(target_arch = "x86_64")]
mod lanes;

use sha2::{Digest, Sha256};

use crate::id::Id;

/// The SHA-256 of `data` as an id.
pub fn sha256(data: &[u8]) -> Id {
    Id(Sha256::digest(data).into())
}

/// How far a message was hashed along with others. It is of use for this one message only, whose bytes may not change meanwhile.
#[derive(Clone, Copy, Default)]
pub struct Begun(#[cfg(target_arch = "x86_64")] lanes::Begun);

/// The SHA-256 of each message, in their order; where the processor can, two at a time.
pub fn sha256_each(messages: &[&[u8]]) -> Vec<Id> {
    let messages: Vec<_> = messages.iter().map(|message| (*message, Begun::default())).collect();
    sha256_along(&messages, None).0
}

/// As `sha256_each`, each message from where it was begun. Of `along` only so much is hashed as costs next to nothing beside the
/// others; its digest comes out once it came to its end.
pub fn sha256_along(messages: &[(&[u8], Begun)], along: Option<(&[u8], &mut Begun)>) -> (Vec<Id>, Option<Id>) {
    #[cfg(target_arch = "x86_64")]
    if lanes::available() {
        let messages: Vec<_> = messages.iter().map(|(message, begun)| (*message, begun.0)).collect();
        let along = along.map(|(message, begun)| (message, &mut begun.0));
        // SAFETY: the processor has the instructions.
        return unsafe { lanes::each(&messages, along) };
    }
    let _ = along;
    (messages.iter().map(|(message, _)| sha256(message)).collect(), None)
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
    }

    /// Each of the others is a whole message once, however the one along was begun before.
    #[test]
    fn one_message_along_with_others() {
        let data: Vec<u8> = (0..20_000).map(|i| (i * i % 251) as u8).collect();
        let other = |length: usize| (&data[..length], Begun::default());
        for length in [0, 55, 64, 119, 120, 128, 1000, 4096, 19_999] {
            let long = &data[data.len() - length..];
            let mut begun = Begun::default();
            let mut ended = None;
            for others in [&[][..], &[700], &[64, 3000, 1], &[0], &[2000, 2001, 2002, 5]] {
                let messages: Vec<_> = others.iter().map(|n| other(*n)).collect();
                let along = if ended.is_none() { Some((long, &mut begun)) } else { None };
                let (ids, id) = sha256_along(&messages, along);
                assert!(ids.iter().eq(messages.iter().map(|(m, _)| sha256(m)).collect::<Vec<_>>().iter()));
                ended = ended.or(id);
                // Wherever it was left, it can be ended from there.
                let (rest, _) = sha256_along(&[other(77), (long, begun)], None);
                assert_eq!(rest, [sha256(&data[..77]), sha256(long)]);
            }
            assert!(ended.is_none_or(|id| id == sha256(long)), "{length}");
            #[cfg(target_arch = "x86_64")]
            assert_eq!(ended.is_some(), length < 5000 && lanes::available(), "{length}");
        }
    }
}
