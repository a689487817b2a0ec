//! Nodes out of JSON, as Go's `json.Unmarshal` fills restic's struct: any order, unknown keys skipped, `null` leaves a field as it is.

use super::{Node, NodeKind, Xattr};
use crate::gojson::{DecodeError, Scanner, base64_decode};
use crate::gostring::unquote;
use crate::id::Id;
use crate::time::Time;

type Result<T> = std::result::Result<T, DecodeError>;

impl Node {
    /// Decode the node that comes next. The name may be anything: who uses it checks it.
    pub fn decode(scanner: &mut Scanner<'_>) -> Result<Node> {
        let mut node = Node::default();
        let mut raw_target = None;
        scanner.expect(b'{', "a node was expected")?;
        let mut first = true;
        while scanner.more(&mut first, b'}')? {
            let key = scanner.key()?;
            if &*key != b"content" && &*key != b"subtree" && scanner.take_null() {
                continue;
            }
            match &*key {
                b"name" => {
                    let at = scanner.at();
                    let quoted = scanner.string()?;
                    node.name =
                        unquote(&quoted).map_err(|_| DecodeError { what: "a name is not a valid Go string", at })?;
                }
                b"type" => node.kind = NodeKind::from_word(&scanner.string()?),
                b"mode" => node.mode = scanner.u32()?,
                b"mtime" => node.mtime = time(scanner)?,
                b"atime" => node.atime = time(scanner)?,
                b"ctime" => node.ctime = time(scanner)?,
                b"uid" => node.uid = scanner.u32()?,
                b"gid" => node.gid = scanner.u32()?,
                b"user" => node.user = scanner.string()?.into_owned(),
                b"group" => node.group = scanner.string()?.into_owned(),
                b"inode" => node.inode = scanner.u64()?,
                b"device_id" => node.device_id = scanner.u64()?,
                b"size" => node.size = scanner.u64()?,
                b"links" => node.links = scanner.u64()?,
                b"linktarget" => node.linktarget = scanner.string()?.into_owned(),
                b"linktarget_raw" => raw_target = Some(bytes(scanner)?),
                b"extended_attributes" => node.xattrs = xattrs(scanner)?,
                b"generic_attributes" => node.generic_attributes = generic_attributes(scanner)?,
                b"device" => node.device = scanner.u64()?,
                b"content" => node.content = content(scanner)?,
                b"subtree" => node.subtree = if scanner.take_null() { None } else { Some(id(scanner)?) },
                b"error" => node.error = scanner.string()?.into_owned(),
                _ => {
                    scanner.skip()?;
                }
            }
        }
        if let Some(raw) = raw_target {
            node.linktarget = raw;
        }
        Ok(node)
    }
}

fn time(scanner: &mut Scanner<'_>) -> Result<Time> {
    let at = scanner.at();
    let text = scanner.string()?;
    Time::parse(&text).ok_or(DecodeError { what: "a time is not RFC 3339", at })
}

fn bytes(scanner: &mut Scanner<'_>) -> Result<Vec<u8>> {
    let at = scanner.at();
    let text = scanner.string()?;
    base64_decode(&text).ok_or(DecodeError { what: "a value is not base64", at })
}

fn id(scanner: &mut Scanner<'_>) -> Result<Id> {
    let at = scanner.at();
    let text = scanner.string()?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(DecodeError { what: "an id is not 64 hex digits", at })
}

fn content(scanner: &mut Scanner<'_>) -> Result<Option<Vec<Id>>> {
    if scanner.take_null() {
        return Ok(None);
    }
    scanner.expect(b'[', "a list of ids was expected")?;
    let mut ids = Vec::new();
    let mut first = true;
    while scanner.more(&mut first, b']')? {
        ids.push(id(scanner)?);
    }
    Ok(Some(ids))
}

fn xattrs(scanner: &mut Scanner<'_>) -> Result<Vec<Xattr>> {
    scanner.expect(b'[', "a list of extended attributes was expected")?;
    let mut xattrs = Vec::new();
    let mut first = true;
    while scanner.more(&mut first, b']')? {
        let mut xattr = Xattr { name: Vec::new(), value: None };
        scanner.expect(b'{', "an extended attribute was expected")?;
        let mut first = true;
        while scanner.more(&mut first, b'}')? {
            let key = scanner.key()?;
            match &*key {
                _ if scanner.take_null() => {}
                b"name" => xattr.name = scanner.string()?.into_owned(),
                b"value" => xattr.value = Some(bytes(scanner)?),
                _ => {
                    scanner.skip()?;
                }
            }
        }
        xattrs.push(xattr);
    }
    Ok(xattrs)
}

/// The raw JSON of an object, or empty where the object is (Go leaves an empty map out).
fn generic_attributes(scanner: &mut Scanner<'_>) -> Result<Vec<u8>> {
    let mut ahead = scanner.clone();
    ahead.expect(b'{', "a map of generic attributes was expected")?;
    let empty = ahead.take(b'}');
    let span = scanner.skip()?;
    Ok(if empty { Vec::new() } else { scanner.text(span).to_vec() })
}
