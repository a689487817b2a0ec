//! Tree blobs, written and read as streams: a folder of 200,000 files is 60 MB of JSON and never a list of nodes.

use std::fmt;
use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::gojson::{DecodeError, Scanner};
use crate::id::Id;
use crate::node::{self, Node};

#[derive(Debug)]
pub enum TreeError {
    /// A name that is not greater (by bytes) than the one before it; an empty name counts as such.
    NotAscending {
        name: Vec<u8>,
        before: Vec<u8>,
    },
    Decode(DecodeError),
    Write(io::Error),
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::NotAscending { name, before } => {
                write!(
                    f,
                    "the names of a tree must ascend, but \"{}\" comes after \"{}\"",
                    name.escape_ascii(),
                    before.escape_ascii()
                )
            }
            TreeError::Decode(error) => write!(f, "damaged tree: {error}"),
            TreeError::Write(error) => write!(f, "a tree cannot be written: {error}"),
        }
    }
}

impl std::error::Error for TreeError {}

impl From<DecodeError> for TreeError {
    fn from(error: DecodeError) -> Self {
        TreeError::Decode(error)
    }
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        TreeError::Write(error)
    }
}

/// Writes restic's exact bytes into `out` and hashes them on the way.
pub struct TreeWriter<W: Write> {
    out: W,
    hash: Sha256,
    len: u64,
    /// The last name; empty before the first node.
    last: Vec<u8>,
    json: Vec<u8>,
}

impl<W: Write> TreeWriter<W> {
    pub fn new(out: W) -> Result<Self, TreeError> {
        let mut writer = TreeWriter { out, hash: Sha256::new(), len: 0, last: Vec::new(), json: Vec::new() };
        writer.put(b"{\"nodes\":[")?;
        Ok(writer)
    }

    /// Append a node; names must ascend strictly.
    pub fn node(&mut self, node: &Node) -> Result<(), TreeError> {
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let result = self
            .begin(&node.name)
            .and_then(|()| {
                node::encode_into(node, &mut json, |part| {
                    self.put(part)?;
                    part.clear();
                    Ok(())
                })
            })
            .and_then(|()| self.put(&json));
        self.json = json;
        result
    }

    /// Append a node as another tree has it: `json` is the span that `TreeReader` gave for it.
    pub fn raw(&mut self, name: &[u8], json: &[u8]) -> Result<(), TreeError> {
        self.begin(name)?;
        self.put(json)
    }

    fn begin(&mut self, name: &[u8]) -> Result<(), TreeError> {
        if name <= &self.last[..] {
            return Err(TreeError::NotAscending { name: name.to_vec(), before: self.last.clone() });
        }
        if !self.last.is_empty() {
            self.put(b",")?;
        }
        self.last.clear();
        self.last.extend_from_slice(name);
        Ok(())
    }

    /// End the tree: its id, its length in bytes and what it was written into.
    pub fn finish(mut self) -> Result<(Id, u64, W), TreeError> {
        self.put(b"]}\n")?;
        Ok((Id(self.hash.finalize().into()), self.len, self.out))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }
}

/// One node and the bytes that it has in its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    pub node: Node,
    pub raw: &'a [u8],
}

/// Gives the nodes of a tree one by one. After an error, but for `NotAscending`, nothing more comes.
pub struct TreeReader<'a> {
    scanner: Scanner<'a>,
    last: Vec<u8>,
    first: bool,
    done: bool,
    any_order: bool,
}

impl<'a> TreeReader<'a> {
    /// Start at the array of nodes; keys before it that restic doesn't know are skipped.
    pub fn new(tree: &'a [u8]) -> Result<Self, TreeError> {
        let mut scanner = Scanner::new(tree);
        scanner.expect(b'{', "a tree was expected")?;
        let mut first = true;
        while scanner.more(&mut first, b'}')? {
            if &*scanner.key()? == b"nodes" {
                scanner.expect(b'[', "a list of nodes was expected")?;
                return Ok(TreeReader { scanner, last: Vec::new(), first: true, done: false, any_order: false });
            }
            scanner.skip()?;
        }
        Ok(scanner.fail("a tree without nodes")?)
    }

    /// Take names in any order, as restic does where it only lists: whoever looks further than the names must check them.
    pub fn tolerant(mut self) -> Self {
        self.any_order = true;
        self
    }

    fn read(&mut self) -> Result<Option<Entry<'a>>, TreeError> {
        if !self.scanner.more(&mut self.first, b']')? {
            let mut first = false;
            while self.scanner.more(&mut first, b'}')? {
                self.scanner.key()?;
                self.scanner.skip()?;
            }
            return Ok(None);
        }
        self.scanner.peek();
        let start = self.scanner.at();
        let node = Node::decode(&mut self.scanner)?;
        Ok(Some(Entry { node, raw: self.scanner.text(start..self.scanner.at()) }))
    }
}

impl<'a> Iterator for TreeReader<'a> {
    type Item = Result<Entry<'a>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.read() {
            Ok(Some(entry)) if entry.node.name <= self.last && !self.any_order => {
                Some(Err(TreeError::NotAscending { name: entry.node.name, before: self.last.clone() }))
            }
            Ok(Some(entry)) => {
                self.last.clone_from(&entry.node.name);
                Some(Ok(entry))
            }
            Ok(None) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

/// The tree's bytes as this crate would write them: equal to `tree` where restic wrote it.
pub fn reencode(tree: &[u8]) -> Result<Vec<u8>, TreeError> {
    let mut writer = TreeWriter::new(Vec::with_capacity(tree.len()))?;
    for entry in TreeReader::new(tree)? {
        writer.node(&entry?.node)?;
    }
    Ok(writer.finish()?.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{NodeKind, Xattr};
    use crate::time::Time;

    fn file(name: &[u8]) -> Node {
        Node { name: name.to_vec(), kind: NodeKind::File, content: Some(Vec::new()), ..Node::default() }
    }

    fn tree(nodes: &[Node]) -> Vec<u8> {
        let mut writer = TreeWriter::new(Vec::new()).expect("a vector takes all");
        for node in nodes {
            writer.node(node).expect("names ascend");
        }
        writer.finish().expect("a vector takes all").2
    }

    fn read(tree: &[u8]) -> Result<Vec<Node>, TreeError> {
        TreeReader::new(tree)?.map(|entry| Ok(entry?.node)).collect()
    }

    #[test]
    fn a_long_list_of_blobs_is_written_whole() {
        let blobs: Vec<Id> = (0..3000u32).map(|n| crate::sha::sha256(&n.to_le_bytes())).collect();
        let node = Node { content: Some(blobs.clone()), ..file(b"long") };
        let written = tree(std::slice::from_ref(&node));
        let quoted: Vec<String> = blobs.iter().map(|blob| format!("\"{blob}\"")).collect();
        let list = format!("\"content\":[{}]", quoted.join(","));
        assert!(String::from_utf8(written.clone()).expect("text").contains(&list));
        assert_eq!(read(&written).expect("a tree")[0].content, Some(blobs));
    }

    #[test]
    fn an_empty_folder() {
        let (id, len, bytes) = TreeWriter::new(Vec::new()).and_then(TreeWriter::finish).expect("a vector takes all");
        assert_eq!(bytes, b"{\"nodes\":[]}\n");
        assert_eq!(len, 13);
        assert_eq!(id, Id(Sha256::digest(&bytes).into()));
    }

    #[test]
    fn a_full_node_in_go_order() {
        let mut node = file(b"a\x01\"<\xff\xc2\xa0.txt");
        node.mode = 0o644;
        node.mtime = Time::from_unix(1_600_000_000, 120_000_000);
        node.atime = Time::parse(b"2020-09-13T14:26:40.000000001+02:00").expect("a time");
        node.ctime = Time::from_unix(-1, 0);
        (node.uid, node.gid) = (1000, 0);
        (node.user, node.group) = (b"j&k".to_vec(), b"staff".to_vec());
        (node.inode, node.device_id, node.size, node.links, node.device) = (u64::MAX, 64_768, 3, 2, 7);
        node.linktarget = b"up/\xe9".to_vec();
        node.xattrs = vec![
            Xattr { name: b"user.a".to_vec(), value: Some(b"\0\x01".to_vec()) },
            Xattr { name: b"user.b".to_vec(), value: None },
            Xattr { name: b"user.c".to_vec(), value: Some(Vec::new()) },
        ];
        node.generic_attributes = br#"{"windows.file_attributes":32}"#.to_vec();
        node.content = Some(vec![Id([0xab; 32]), Id([1; 32])]);
        node.subtree = Some(Id([2; 32]));
        node.error = b"oops".to_vec();
        let (ab, one, two) = ("ab".repeat(32), "01".repeat(32), "02".repeat(32));
        let expected = format!(
            concat!(
                r#"{{"nodes":[{{"name":"a\\x01\\\"\u003c\\xff\\u00a0.txt","type":"file","mode":420,"mtime":"2020-09-13T12:26:40.12Z","#,
                r#""atime":"2020-09-13T14:26:40.000000001+02:00","ctime":"1969-12-31T23:59:59Z","uid":1000,"gid":0,"user":"j\u0026k","#,
                r#""group":"staff","inode":18446744073709551615,"device_id":64768,"size":3,"links":2,"linktarget":"up/\ufffd","#,
                r#""linktarget_raw":"dXAv6Q==","extended_attributes":[{{"name":"user.a","value":"AAE="}},"#,
                r#"{{"name":"user.b","value":null}},{{"name":"user.c","value":""}}],"#,
                r#""generic_attributes":{{"windows.file_attributes":32}},"device":7,"content":["{}","{}"],"subtree":"{}","error":"oops"}}]}}"#,
                "\n"
            ),
            ab, one, two
        );
        let bytes = tree(std::slice::from_ref(&node));
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(read(&bytes).expect("own bytes"), [node]);
    }

    #[test]
    fn a_bare_node() {
        let node = Node { name: b"x".to_vec(), ..Node::default() };
        let zero = "0001-01-01T00:00:00Z";
        let expected = format!(
            "{{\"nodes\":[{{\"name\":\"x\",\"type\":\"\",\"mtime\":\"{zero}\",\"atime\":\"{zero}\",\"ctime\":\"{zero}\",\"uid\":0,\"gid\":0,\"content\":null}}]}}\n"
        );
        assert_eq!(String::from_utf8_lossy(&tree(std::slice::from_ref(&node))), expected);
        assert_eq!(read(br#"{"nodes":[{"name":"x"}]}"#).expect("a tree"), [node]);
    }

    #[test]
    fn unknown_keys_and_other_orders_are_read() {
        let json = br#" {"v":[{"nodes":1}], "nodes": [ {"content":[],"x":{"y":[]},"type":"file","name":"b","user":null,"linktarget":"t?","linktarget_raw":"/w=="} ] , "after":null } "#;
        let nodes = read(json).expect("a tree");
        assert_eq!(nodes.len(), 1);
        assert_eq!((&nodes[0].name[..], &nodes[0].linktarget[..]), (&b"b"[..], &b"\xff"[..]));
        assert_eq!(nodes[0].content, Some(Vec::new()));
    }

    #[test]
    fn raw_spans_make_the_same_tree() {
        let bytes = tree(&[file(b"a"), file(b"b"), file(b"c")]);
        let mut writer = TreeWriter::new(Vec::new()).expect("a vector takes all");
        for entry in TreeReader::new(&bytes).expect("a tree") {
            let entry = entry.expect("a node");
            writer.raw(&entry.node.name, entry.raw).expect("names ascend");
        }
        assert_eq!(writer.finish().expect("a vector takes all").2, bytes);
    }

    #[test]
    fn names_must_ascend_by_bytes() {
        let mut writer = TreeWriter::new(io::sink()).expect("a sink takes all");
        writer.node(&file(b"b")).expect("the first");
        for bad in [&b"b"[..], b"a", b"B"] {
            assert!(matches!(writer.node(&file(bad)), Err(TreeError::NotAscending { .. })));
        }
        writer.node(&file(b"\xff")).expect("0xff is the last byte");
        let mut empty = TreeWriter::new(io::sink()).expect("a sink takes all");
        assert!(matches!(empty.node(&file(b"")), Err(TreeError::NotAscending { .. })));

        let json = br#"{"nodes":[{"name":"b"},{"name":"a"},{"name":"b"},{"name":"c"}]}"#;
        let seen: Vec<bool> = TreeReader::new(json).expect("a tree").map(|entry| entry.is_ok()).collect();
        assert_eq!(seen, [true, false, false, true]);
    }

    #[test]
    fn damage_is_an_error() {
        let node = r#"{"name":"a"}"#;
        for bad in [
            String::new(),
            "null".into(),
            "[]".into(),
            "{}".into(),
            r#"{"nodes":null}"#.into(),
            r#"{"nodes":{}}"#.into(),
            r#"{"nodes":["#.into(),
            format!(r#"{{"nodes":[{node}"#),
            format!(r#"{{"nodes":[{node}]"#),
            format!(r#"{{"nodes":[{node},]}}"#),
            format!(r#"{{"nodes":[{node}{node}]}}"#),
            r#"{"nodes":[null]}"#.into(),
            r#"{"nodes":[{"name":"\\q"}]}"#.into(),
            r#"{"nodes":[{"name":1}]}"#.into(),
            r#"{"nodes":[{"mode":-1}]}"#.into(),
            r#"{"nodes":[{"mode":4294967296}]}"#.into(),
            r#"{"nodes":[{"content":["ab"]}]}"#.into(),
            r#"{"nodes":[{"content":[null]}]}"#.into(),
            r#"{"nodes":[{"mtime":"now"}]}"#.into(),
            r#"{"nodes":[{"extended_attributes":[{"value":"*"}]}]}"#.into(),
            r#"{"nodes":[{"generic_attributes":[]}]}"#.into(),
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        let whole = tree(&[file(b"a"), file(b"b")]);
        for cut in 0..whole.len() - 2 {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }
}
