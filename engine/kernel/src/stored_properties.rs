//! What holds for every stored byte: readers of packs, index files and frames never panic, whatever a storage gives them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::blob::Opener;
use crate::codec::{compress, decompress};
use crate::id::Id;
use crate::index::{Index, PackContents, encode};
use crate::pack::BlobKind;
use crate::pack::header::{self, Entry};
use crate::pack::verify::verify_pack;
use crate::seal::{Key, OVERHEAD};
use crate::sha::sha256;

fn key() -> Key {
    Key::new(&[1; 32], &[2; 16], &[3; 16]).expect("a key")
}

prop_compose! {
    fn entry()(tree: bool, id: [u8; 32], length in 32..10_000u32, uncompressed_length in prop_oneof![Just(0), any::<u32>()]) -> Entry {
        let kind = if tree { BlobKind::Tree } else { BlobKind::Data };
        Entry { kind, id: Id(id), offset: 0, length, uncompressed_length }
    }
}

/// Entries that lie one after another.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 1..20).prop_map(|mut entries| {
        let mut offset = 0;
        for entry in &mut entries {
            entry.offset = offset;
            offset += entry.length;
        }
        entries
    })
}

proptest! {
    #[test]
    fn sealed_bytes_come_back_and_any_others_are_refused(plain in vec(any::<u8>(), 0..300), junk in vec(any::<u8>(), 0..100)) {
        let sealed = key().seal(&plain).expect("random numbers");
        prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
        prop_assert_eq!(key().unseal(&sealed).expect("what was sealed"), plain);
        prop_assert!(key().unseal(&junk).is_err());
    }

    #[test]
    fn frames_come_back_and_any_bytes_end_within_the_limit(plain in vec(any::<u8>(), 0..3000), junk in vec(any::<u8>(), 0..100), limit in 0..2000usize) {
        let frame = compress(&plain, 3).expect("a frame");
        prop_assert_eq!(&decompress(&frame, plain.len()).expect("what was compressed"), &plain);
        if let Ok(out) = decompress(&frame, limit) {
            prop_assert!(out.len() <= limit && out == plain);
        }
        if let Ok(out) = decompress(&junk, limit) {
            prop_assert!(out.len() <= limit);
        }
    }

    #[test]
    fn damaged_frames_never_panic(plain in vec(0..4u8, 0..3000), at: prop::sample::Index, byte: u8) {
        let mut frame = compress(&plain, 3).expect("a frame");
        let at = at.index(frame.len());
        frame[at] = byte;
        if let Ok(out) = decompress(&frame, 4000) {
            prop_assert!(out.len() <= 4000);
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written(entries in entries()) {
        let mut pack = vec![0; entries.iter().map(|e| e.length as usize).sum()];
        header::write(&key(), &entries, &mut pack).expect("random numbers");
        let (blobs, sealed) = header::split(&pack).expect("a pack");
        prop_assert_eq!(blobs.len() + header::sealed_size(entries.iter()), pack.len());
        prop_assert_eq!(header::read(&key(), sealed).expect("own header"), entries);
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error(junk in vec(any::<u8>(), 0..400)) {
        let _ = header::split(&junk);
        if let Ok(entries) = header::read(&key(), &key().seal(&junk).expect("random numbers")) {
            prop_assert!(!entries.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_a_pack_with_problems(junk in vec(any::<u8>(), 0..400), entries in entries()) {
        let problems = verify_pack(&key(), &Id([7; 32]), entries, &junk).expect("a verdict");
        prop_assert!(!problems.is_empty());
    }

    #[test]
    fn index_files_are_read_as_they_were_written(entries in entries(), pack: [u8; 32]) {
        let contents = PackContents { pack: Id(pack), entries: entries.clone() };
        let index = Index::new();
        index.add_file(sha256(b"file"), &encode(&[contents])).expect("own file");
        prop_assert_eq!(index.pack_entries(&Id(pack)), entries.clone());
        for entry in entries {
            prop_assert!(index.locate(entry.kind, &entry.id).iter().any(|p| p.offset == entry.offset));
        }
    }

    #[test]
    fn changed_index_files_never_panic(entries in entries(), at: prop::sample::Index, byte: u8) {
        let mut json = encode(&[PackContents { pack: Id([9; 32]), entries }]);
        let at = at.index(json.len());
        json[at] = byte;
        let index = Index::new();
        if index.add_file(sha256(b"file"), &json).is_err() {
            prop_assert!(index.is_empty());
        }
    }

    #[test]
    fn a_blob_is_opened_as_what_it_was_or_not_at_all(
        plain in vec(0..8u8, 1..2000), raw: bool, at: prop::sample::Index, bit in 0..8u32, claimed: u32,
    ) {
        let (stored, length) =
            if raw { (plain.clone(), 0) } else { (compress(&plain, 3).expect("a frame"), plain.len().try_into().unwrap()) };
        let (sealed, id) = (key().seal(&stored).expect("random numbers"), sha256(&plain));
        let mut opener = Opener::new().expect("memory");
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= 1 << bit;
        prop_assert!(opener.open(&key(), &changed, &id, length).is_err());
        prop_assert!(opener.open(&key(), &sealed, &sha256(b"of another blob"), length).is_err());
        prop_assert!(claimed == length || opener.open(&key(), &sealed, &id, claimed).is_err());
        prop_assert_eq!(opener.open(&key(), &sealed, &id, length).expect("what was sealed"), &plain[..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_bomb_gives_no_more_than_the_limit(pieces in vec((any::<u8>(), 1..2_000_000usize), 1..4), limit in 0..4_000_000usize) {
        let frames: Vec<_> = pieces.iter().map(|(byte, count)| compress(&vec![*byte; *count], 3).expect("a frame")).collect();
        let bomb = frames.concat();
        let held: usize = pieces.iter().map(|(_, count)| count).sum();
        match decompress(&bomb, limit) {
            Ok(out) => prop_assert!(out.len() == held && held <= limit),
            Err(_) => prop_assert!(held > limit),
        }
    }
}
