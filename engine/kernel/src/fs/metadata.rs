//! From what `stat` says to a node.

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::names::Names;
use super::xattrs::{self, Of};
use crate::node::{Node, NodeKind, mode};
use crate::time::Time;

/// Makes nodes, all in the same way.
pub struct Describer {
    names: Option<Names>,
    with_atime: bool,
}

pub fn kind(stat: &Stat) -> NodeKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Dir,
        FileType::Symlink => NodeKind::Symlink,
        FileType::BlockDevice => NodeKind::Dev,
        FileType::CharacterDevice => NodeKind::CharDev,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::Unknown => NodeKind::Missing,
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
pub fn mtime(stat: &Stat) -> Time {
    Time::from_unix(stat.st_mtime as i64, stat.st_mtime_nsec as u32)
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
pub fn ctime(stat: &Stat) -> Time {
    Time::from_unix(stat.st_ctime as i64, stat.st_ctime_nsec as u32)
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
fn atime(stat: &Stat) -> Time {
    Time::from_unix(stat.st_atime as i64, stat.st_atime_nsec as u32)
}

/// The parent's text of a time where it names the same instant, so that the tree's bytes stay as they are.
fn kept(now: Time, before: Option<Time>) -> Time {
    before.filter(|b| b.same_instant(now)).unwrap_or(now)
}

impl Describer {
    pub fn new(omit_names: bool, with_atime: bool) -> Self {
        Self { names: (!omit_names).then(Names::default), with_atime }
    }

    /// A node without content, subtree, link target and extended attributes. `previous` is the parent's node of this name.
    #[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between architectures")]
    pub fn node(&self, name: &[u8], stat: &Stat, previous: Option<&Node>) -> Node {
        let kind = kind(stat);
        let (is_dir, is_device) = (kind == NodeKind::Dir, matches!(kind, NodeKind::Dev | NodeKind::CharDev));
        let has_links = is_device || matches!(kind, NodeKind::File | NodeKind::Symlink);
        let links = if has_links { stat.st_nlink as u64 } else { 0 };
        let mtime = kept(mtime(stat), previous.map(|p| p.mtime));
        let accessed = if self.with_atime { atime(stat) } else { mtime };
        Node {
            name: name.to_vec(),
            mode: mode::from_stat(stat.st_mode),
            mtime,
            atime: kept(accessed, previous.map(|p| p.atime)),
            ctime: kept(ctime(stat), previous.map(|p| p.ctime)),
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.names.as_ref().map(|n| n.user(stat.st_uid)).unwrap_or_default(),
            group: self.names.as_ref().map(|n| n.group(stat.st_gid)).unwrap_or_default(),
            inode: stat.st_ino as u64,
            device_id: if links == 1 || is_dir { 0 } else { stat.st_dev as u64 },
            size: if kind == NodeKind::File { stat.st_size as u64 } else { 0 },
            links,
            device: if is_device { stat.st_rdev as u64 } else { 0 },
            content: (kind == NodeKind::File).then(Vec::new),
            kind,
            ..Node::default()
        }
    }
}

/// Something about extended attributes that could not be read.
pub struct Unread {
    pub why: String,
    /// The whole list is missing, not one attribute: restic counts only that as an error.
    pub all: bool,
    pub denied: bool,
}

/// Fills in the extended attributes; tells what can't be read.
pub fn add_xattrs(node: &mut Node, of: &Of<'_>) -> Vec<Unread> {
    let mut unread = Vec::new();
    node.xattrs = xattrs::read(of, |name, error: Errno| {
        let all = name.is_empty();
        let why = if all {
            format!("its extended attributes can't be listed: {error}")
        } else {
            format!("its extended attribute {} can't be read: {error}", name.escape_ascii())
        };
        unread.push(Unread { why, all, denied: matches!(error, Errno::PERM | Errno::ACCESS) });
    });
    unread
}
