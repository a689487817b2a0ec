//! Nodes as Go's `json.Marshal` writes restic's struct: keys in its order, zero values left out where it says so.

use super::Node;
use crate::gojson::{base64_encode_into, string_into, u64_into};
use crate::gostring::quote_into;
use crate::time::Time;

/// How much of a long list of blobs is gathered before it goes on: that of a large sparse file has 67 bytes for each 512 KiB.
const PART: usize = 64 << 10;

/// Append the JSON of `node`. What is long goes on in parts through `drain`, which empties `out`.
pub fn encode_into<E>(
    node: &Node,
    out: &mut Vec<u8>,
    drain: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    out.extend_from_slice(b"{\"name\":");
    let mut quoted = Vec::with_capacity(node.name.len() + 8);
    quote_into(&node.name, &mut quoted);
    string_into(&quoted, out);
    out.extend_from_slice(b",\"type\":");
    string_into(node.kind.word(), out);
    number(out, b"mode", node.mode.into());
    time(out, b"mtime", node.mtime);
    time(out, b"atime", node.atime);
    time(out, b"ctime", node.ctime);
    always(out, b"uid", node.uid.into());
    always(out, b"gid", node.gid.into());
    text(out, b"user", &node.user);
    text(out, b"group", &node.group);
    number(out, b"inode", node.inode);
    number(out, b"device_id", node.device_id);
    number(out, b"size", node.size);
    number(out, b"links", node.links);
    text(out, b"linktarget", &node.linktarget);
    if std::str::from_utf8(&node.linktarget).is_err() {
        key(out, b"linktarget_raw");
        bytes(out, &node.linktarget);
    }
    xattrs(out, node);
    if !node.generic_attributes.is_empty() {
        key(out, b"generic_attributes");
        out.extend_from_slice(&node.generic_attributes);
    }
    number(out, b"device", node.device);
    content(out, node, drain)?;
    if let Some(subtree) = node.subtree {
        key(out, b"subtree");
        id(out, &subtree.hex());
    }
    text(out, b"error", &node.error);
    out.push(b'}');
    Ok(())
}

fn key(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

fn always(out: &mut Vec<u8>, name: &[u8], value: u64) {
    key(out, name);
    u64_into(value, out);
}

fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    if value != 0 {
        always(out, name, value);
    }
}

fn text(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !value.is_empty() {
        key(out, name);
        string_into(value, out);
    }
}

fn time(out: &mut Vec<u8>, name: &[u8], value: Time) {
    key(out, name);
    out.push(b'"');
    value.write_into(out);
    out.push(b'"');
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    base64_encode_into(value, out);
    out.push(b'"');
}

fn id(out: &mut Vec<u8>, hex: &[u8; 64]) {
    out.push(b'"');
    out.extend_from_slice(hex);
    out.push(b'"');
}

fn xattrs(out: &mut Vec<u8>, node: &Node) {
    for (i, xattr) in node.xattrs.iter().enumerate() {
        if i == 0 {
            key(out, b"extended_attributes");
        }
        out.extend_from_slice(if i == 0 { b"[{\"name\":" } else { b",{\"name\":" });
        string_into(&xattr.name, out);
        out.extend_from_slice(b",\"value\":");
        match &xattr.value {
            Some(value) => bytes(out, value),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
    if !node.xattrs.is_empty() {
        out.push(b']');
    }
}

fn content<E>(out: &mut Vec<u8>, node: &Node, mut drain: impl FnMut(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    key(out, b"content");
    let Some(ids) = &node.content else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    out.push(b'[');
    for (i, blob) in ids.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        id(out, &blob.hex());
        if out.len() >= PART {
            drain(out)?;
        }
    }
    out.push(b']');
    Ok(())
}
