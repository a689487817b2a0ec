//! What holds for every input: decoders never panic, and what is written is read as it was meant.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::gojson::{Scanner, base64_decode, base64_encode_into, string_into};
use crate::gostring::{quote_into, unquote};
use crate::id::Id;
use crate::node::{Node, NodeKind, Xattr};
use crate::pattern::PatternList;
use crate::time::Time;
use crate::tree::{TreeReader, TreeWriter, reencode};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), ".{0,20}".prop_map(String::into_bytes)]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    ".{0,20}".prop_map(String::into_bytes)
}

fn time() -> impl Strategy<Value = Time> {
    let clock = (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Time::from_unix(secs, nanos));
    let zoned = (0..10_000u32, 1..=12u32, 1..=28u32, 0..24u32, 0..60u32, -1439..1440i32, 0..1_000_000_000u32).prop_map(
        |(year, month, day, hour, minute, zone, nanos)| {
            let sign = if zone < 0 { '-' } else { '+' };
            let (hours, minutes) = (zone.abs() / 60, zone.abs() % 60);
            let text = format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:07.{nanos:09}{sign}{hours:02}:{minutes:02}"
            );
            Time::parse(text.as_bytes()).expect("a time in RFC 3339")
        },
    );
    prop_oneof![clock, zoned]
}

fn kind() -> impl Strategy<Value = NodeKind> {
    prop_oneof![
        Just(NodeKind::File),
        Just(NodeKind::Dir),
        Just(NodeKind::Symlink),
        Just(NodeKind::CharDev),
        text().prop_map(|word| NodeKind::from_word(&word)),
    ]
}

fn id() -> impl Strategy<Value = Id> {
    any::<[u8; 32]>().prop_map(Id)
}

prop_compose! {
    fn node()(
        name in vec(any::<u8>(), 1..30),
        kind in kind(),
        (mtime, atime, ctime) in (time(), time(), time()),
        (mode, uid, gid) in any::<(u32, u32, u32)>(),
        (user, group, error) in (text(), text(), text()),
        (inode, device_id, size, links, device) in any::<(u64, u64, u64, u64, u64)>(),
        linktarget in bytes(),
        xattrs in vec((text(), option::of(bytes())), 0..3),
        content in option::of(vec(id(), 0..4)),
        subtree in option::of(id()),
    ) -> Node {
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
        let generic_attributes = if inode % 2 == 0 { Vec::new() } else { br#"{"windows.file_attributes":32}"#.to_vec() };
        Node {
            name, kind, mode, mtime, atime, ctime, uid, gid, user, group, inode, device_id, size, links, linktarget, xattrs,
            generic_attributes, device, content, subtree, error,
        }
    }
}

fn encoded(nodes: &[Node]) -> Vec<u8> {
    let mut writer = TreeWriter::new(Vec::new()).expect("a vector takes all");
    for node in nodes {
        writer.node(node).expect("the names ascend");
    }
    writer.finish().expect("a vector takes all").2
}

proptest! {
    #[test]
    fn trees_are_read_as_they_were_written(nodes in vec(node(), 0..5)) {
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        let tree = encoded(&nodes);
        prop_assert!(std::str::from_utf8(&tree).is_ok());
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&tree).is_ok());
        let read: Vec<Node> = TreeReader::new(&tree).unwrap().map(|entry| entry.unwrap().node).collect();
        prop_assert_eq!(read, nodes);
        prop_assert_eq!(reencode(&tree).unwrap(), tree);
    }

    #[test]
    fn changed_trees_never_panic(nodes in vec(node(), 1..4), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        let mut tree = encoded(&nodes);
        for (at, byte) in changes {
            let at = at.index(tree.len());
            tree[at] = byte;
        }
        if let Ok(reader) = TreeReader::new(&tree) {
            for entry in reader {
                let _ = entry;
            }
        }
        let _ = reencode(&tree);
    }

    #[test]
    fn any_bytes_are_a_tree_or_an_error(junk in bytes(), depth in 0..400usize) {
        let deep = [&b"{\"nodes\":[{\"x\":"[..], "[".repeat(depth).as_bytes(), &junk].concat();
        for tree in [&junk, &[&b"{\"nodes\":["[..], &junk].concat(), &[&b"{\"nodes\":[{\"name\":\"a\","[..], &junk].concat(), &deep] {
            if let Ok(reader) = TreeReader::new(tree) {
                prop_assert!(reader.take(1000).count() < 1000);
            }
        }
        let _ = Scanner::new(&junk).skip();
    }

    #[test]
    fn names_survive_quoting_and_json(raw in bytes()) {
        let (mut quoted, mut json) = (Vec::new(), Vec::new());
        quote_into(&raw, &mut quoted);
        string_into(&quoted, &mut json);
        let value: String = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(value.as_bytes(), &quoted[..]);
        prop_assert_eq!(Scanner::new(&json).string().unwrap().into_owned(), &quoted[..]);
        prop_assert_eq!(unquote(&quoted).unwrap(), raw);
    }

    #[test]
    fn junk_is_refused_or_read_but_never_a_panic(junk in bytes()) {
        let _ = (unquote(&junk), base64_decode(&junk), Time::parse(&junk), NodeKind::from_word(&junk));
        if let Ok(list) = PatternList::new([&junk], true) {
            let _ = (list.matches(&junk), list.verdict(b"/a/b"));
        }
    }

    #[test]
    fn base64_survives(raw in vec(any::<u8>(), 0..100)) {
        let mut text = Vec::new();
        base64_encode_into(&raw, &mut text);
        prop_assert_eq!(base64_decode(&text).unwrap(), raw);
    }

    #[test]
    fn times_survive(time in time()) {
        prop_assert_eq!(Time::parse(time.to_string().as_bytes()), Some(time));
    }
}
