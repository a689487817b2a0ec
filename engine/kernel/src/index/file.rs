//! Index files' JSON (restic-format 1.7). Unknown fields, among them `supersedes` and rustic's, are passed over.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::pack::header::Entry;
use crate::seal::OVERHEAD;

/// One pack and what it holds.
#[derive(Clone, Debug)]
pub struct PackContents {
    pub pack: Id,
    pub entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct File {
    packs: Option<Vec<Pack>>,
}

#[derive(Deserialize)]
struct Pack {
    id: Id,
    blobs: Option<Vec<Blob>>,
}

#[derive(Deserialize)]
struct Blob {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobKind,
    offset: u32,
    length: u32,
    #[serde(default)]
    uncompressed_length: u32,
}

pub fn decode(json: &[u8]) -> Result<Vec<PackContents>> {
    let file: File =
        serde_json::from_slice(json).map_err(|e| Error::damaged(format!("its JSON can't be read: {e}")))?;
    let mut packs = Vec::new();
    for pack in file.packs.unwrap_or_default() {
        let mut entries = Vec::new();
        for b in pack.blobs.unwrap_or_default() {
            if (b.length as usize) < OVERHEAD || b.offset.checked_add(b.length).is_none() {
                return Err(Error::damaged(format!(
                    "it gives blob {} of pack {} the impossible place {} + {}",
                    b.id, pack.id, b.offset, b.length
                )));
            }
            entries.push(Entry {
                kind: b.kind,
                id: b.id,
                offset: b.offset,
                length: b.length,
                uncompressed_length: b.uncompressed_length,
            });
        }
        packs.push(PackContents { pack: pack.id, entries });
    }
    Ok(packs)
}

/// The JSON of an index file, byte for byte as restic writes it.
pub fn encode(packs: &[PackContents]) -> Vec<u8> {
    use std::io::Write;
    let mut out = Vec::with_capacity(packs.iter().map(|p| 100 + p.entries.len() * 160).sum::<usize>() + 16);
    out.extend_from_slice(b"{\"packs\":[");
    for (i, pack) in packs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(&pack.pack.hex());
        out.extend_from_slice(b"\",\"blobs\":[");
        for (j, e) in pack.entries.iter().enumerate() {
            if j > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"id\":\"");
            out.extend_from_slice(&e.id.hex());
            // Writing into a Vec can't fail.
            let _ = write!(out, "\",\"type\":\"{}\",\"offset\":{},\"length\":{}", e.kind, e.offset, e.length);
            if e.uncompressed_length != 0 {
                let _ = write!(out, ",\"uncompressed_length\":{}", e.uncompressed_length);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha::sha256;

    #[test]
    fn writes_as_restic_does() {
        let id = sha256(b"x");
        let raw = Entry { kind: BlobKind::Data, id, offset: 0, length: 40, uncompressed_length: 0 };
        let packed = Entry { kind: BlobKind::Tree, id, offset: 40, length: 50, uncompressed_length: 99 };
        let json = encode(&[PackContents { pack: id, entries: vec![raw, packed] }]);
        assert_eq!(
            String::from_utf8(json.clone()).unwrap(),
            format!(
                "{{\"packs\":[{{\"id\":\"{id}\",\"blobs\":[\
                 {{\"id\":\"{id}\",\"type\":\"data\",\"offset\":0,\"length\":40}},\
                 {{\"id\":\"{id}\",\"type\":\"tree\",\"offset\":40,\"length\":50,\"uncompressed_length\":99}}]}}]}}\n"
            )
        );
        assert_eq!(decode(&json).unwrap()[0].entries, [raw, packed]);
    }

    #[test]
    fn passes_over_what_it_does_not_know() {
        let json = br#"{"supersedes":["x"],"packs":[],"packs_to_delete":[{"id":1}]}"#;
        assert!(decode(json).unwrap().is_empty());
        assert!(decode(br#"{"packs":null}"#).unwrap().is_empty());
    }

    #[test]
    fn refuses_impossible_places_and_other_json() {
        let id = sha256(b"x");
        for (offset, length) in [(0, 31), (u32::MAX, 40)] {
            let json = format!(
                r#"{{"packs":[{{"id":"{id}","blobs":[{{"id":"{id}","type":"data","offset":{offset},"length":{length}}}]}}]}}"#
            );
            assert!(decode(json.as_bytes()).is_err());
        }
        assert!(decode(b"[]").is_err());
        assert!(decode(br#"{"packs":[{"id":"07"}]}"#).is_err());
    }
}
