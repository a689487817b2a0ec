//! Reading a whole pack against the index: name, size, header, and every blob.

use super::header::{self, Entry};
use crate::blob::Opener;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::seal::Key;
use crate::sha::sha256;

/// What is wrong with the bytes of a pack, one sentence each; `indexed` is what the index says of it, in any order.
pub fn verify_pack(key: &Key, pack: &Id, mut indexed: Vec<Entry>, data: &[u8]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let found = sha256(data);
    if found != *pack {
        problems.push(format!("pack {pack} has the content of {found}"));
    }
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
    let mut opener = Opener::new()?;
    for entry in listed.as_ref().unwrap_or(&indexed) {
        let end = entry.offset as usize + entry.length as usize;
        let Some(sealed) = data.get(entry.offset as usize..end) else {
            problems.push(format!("pack {pack} ends before blob {}", entry.id));
            continue;
        };
        match opener.open(key, sealed, &entry.id, entry.uncompressed_length) {
            Ok(_) => {}
            Err(Error::Damaged(why)) => problems.push(format!("in pack {pack}, {why}")),
            Err(other) => return Err(other),
        }
    }
    Ok(problems)
}
