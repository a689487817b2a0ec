//! Reading a whole pack against the index: name, size, header, and every blob.

use super::header::{self, Entry};
use crate::blob::{Buffers, Opener, Sealed, groups};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::seal::Key;
use crate::sha::{Begun, sha256_along};

/// What is wrong with the bytes of a pack, one sentence each; `indexed` is what the index says of it, in any order.
pub fn verify_pack(key: &Key, pack: &Id, mut indexed: Vec<Entry>, data: &[u8]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let listed = match header::split(data).and_then(|(blobs, sealed)| Ok((blobs.len(), header::read(key, sealed)?))) {
        Ok((size, mut listed)) => {
            let sum: u64 = listed.iter().map(|e| u64::from(e.length)).sum();
            if sum != size as u64 {
                problems.push(format!("pack {pack} has {size} bytes of blobs, but its header lists {sum}"));
            }
            listed.sort_by_key(|e| (e.offset, e.id));
            Some(listed)
        }
        Err(Error::Damaged(why)) => {
            problems.push(format!("the header of pack {pack} can't be read: {why}"));
            None
        }
        Err(other) => return Err(other),
    };
    indexed.sort_by_key(|e| (e.offset, e.id));
    if let Some(listed) = &listed
        && *listed != indexed
    {
        problems.push(format!(
            "pack {pack} lists {} blobs in its header and {} in the index, and they differ",
            listed.len(),
            indexed.len()
        ));
    }
    let sealed = listed.as_ref().unwrap_or(&indexed).iter().map(|e| Sealed {
        bytes: data.get(e.offset as usize..e.offset as usize + e.length as usize),
        id: e.id,
        uncompressed_length: e.uncompressed_length,
    });
    // The pack is hashed along with its blobs.
    let (mut begun, mut hash) = (Begun::default(), None);
    open_all(key, &sealed.collect::<Vec<_>>(), Some((data, &mut begun, &mut hash)), |blob, opened| {
        match opened {
            Ok(()) => {}
            Err(_) if blob.bytes.is_none() => problems.push(format!("pack {pack} ends before blob {}", blob.id)),
            Err(Error::Damaged(why)) => problems.push(format!("in pack {pack}, {why}")),
            Err(other) => return Err(other),
        }
        Ok(())
    })?;
    let found = hash.or_else(|| sha256_along(&[(data, begun)], None).0.pop());
    if let Some(found) = found.filter(|found| found != pack) {
        problems.insert(0, format!("pack {pack} has the content of {found}"));
    }
    Ok(problems)
}

/// Whether each of these blobs opens to what its id says.
pub fn check_blobs(key: &Key, blobs: &[Sealed<'_>]) -> Result<Vec<bool>> {
    let mut good = Vec::with_capacity(blobs.len());
    open_all(key, blobs, None, |_, opened| match opened {
        Ok(()) | Err(Error::Damaged(_)) => {
            good.push(opened.is_ok());
            Ok(())
        }
        Err(other) => Err(other),
    })?;
    Ok(good)
}

/// A message that is hashed along with others: how far that came, and its hash in the end.
type Along<'a> = (&'a [u8], &'a mut Begun, &'a mut Option<Id>);

/// Opens blobs, in their order, and tells what came of each.
fn open_all<'d>(
    key: &Key,
    blobs: &[Sealed<'d>],
    mut along: Option<Along<'_>>,
    mut tell: impl FnMut(&Sealed<'d>, Result<()>) -> Result<()>,
) -> Result<()> {
    let (mut opener, mut buffers) = (Opener::new()?, Buffers::default());
    for group in groups(blobs, Sealed::size) {
        let message = match &mut along {
            Some((message, begun, None)) => Some((*message, &mut **begun)),
            _ => None,
        };
        let (opened, ended) = opener.open_each(key, group, &mut buffers, message);
        if let (Some((_, _, hash)), Some(ended)) = (&mut along, ended) {
            **hash = Some(ended);
        }
        for (blob, opened) in group.iter().zip(opened) {
            tell(blob, opened.map(drop))?;
        }
        buffers.trim();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress;
    use crate::pack::BlobKind;
    use crate::sha::sha256;

    fn key() -> Key {
        Key::new(&[3; 32], &[5; 16], &[7; 16]).expect("a key")
    }

    /// A pack of blobs of these lengths, its entries and its name.
    fn pack(lengths: &[usize]) -> (Vec<u8>, Vec<Entry>, Id) {
        let (mut data, mut entries) = (Vec::new(), Vec::new());
        for (number, length) in lengths.iter().enumerate() {
            let plain: Vec<u8> = (0..*length).map(|i| (i * number / 7) as u8).collect();
            let sealed = key().seal(&compress(&plain, 3).expect("a frame")).expect("random numbers");
            let uncompressed_length = *length as u32;
            let (offset, length) = (data.len() as u32, sealed.len() as u32);
            entries.push(Entry { kind: BlobKind::Data, id: sha256(&plain), offset, length, uncompressed_length });
            data.extend_from_slice(&sealed);
        }
        header::write(&key(), &entries, &mut data).expect("a header");
        let name = sha256(&data);
        (data, entries, name)
    }

    #[test]
    fn a_pack_as_it_was_written_has_no_problems() {
        for lengths in [&[1][..], &[300; 500], &[3 << 20, 1, 2 << 20, 2 << 20, 500_000], &[9 << 20]] {
            let (data, entries, name) = pack(lengths);
            assert_eq!(verify_pack(&key(), &name, entries, &data).expect("a verdict"), [""; 0], "{lengths:?}");
        }
    }

    #[test]
    fn each_damage_is_told_of_the_blob_that_has_it_and_of_the_pack() {
        let (data, entries, name) = pack(&[300, 70_000, 1, 2 << 20, 3 << 20, 9000]);
        for (number, entry) in entries.iter().enumerate() {
            let mut bad = data.clone();
            bad[(entry.offset + entry.length / 2) as usize] ^= 4;
            let problems = verify_pack(&key(), &name, entries.clone(), &bad).expect("a verdict");
            assert!(problems[0].contains(&format!("pack {name} has the content of {}", sha256(&bad))), "{problems:?}");
            assert!(problems[1].contains(&format!("blob {} is damaged", entry.id)), "{problems:?}");
            assert_eq!(problems.len(), 2);
            let sealed = entries.iter().map(|e| Sealed {
                bytes: bad.get(e.offset as usize..(e.offset + e.length) as usize),
                id: e.id,
                uncompressed_length: e.uncompressed_length,
            });
            let good = check_blobs(&key(), &sealed.collect::<Vec<_>>()).expect("a verdict");
            assert!(good.iter().enumerate().all(|(i, good)| *good == (i != number)), "{good:?}");
        }
    }

    #[test]
    fn a_piece_that_is_not_there_is_no_good_blob() {
        let missing = Sealed { bytes: None, id: sha256(b""), uncompressed_length: 0 };
        assert_eq!(check_blobs(&key(), &[missing]), Ok(vec![false]));
        assert_eq!(check_blobs(&key(), &[]), Ok(vec![]));
    }
}
