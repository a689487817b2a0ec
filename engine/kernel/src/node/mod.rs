//! One entry of a tree (restic-format 1.9).

mod decode;
mod encode;

use crate::id::Id;
use crate::time::Time;

pub use encode::encode_into;

/// What a node is. Whatever else a tree calls a node is kept, for `check` to report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodeKind {
    File,
    Dir,
    Symlink,
    Dev,
    CharDev,
    Fifo,
    Socket,
    /// "irregular" and any word that restic doesn't know.
    Other(Box<[u8]>),
    /// The empty word, or none.
    #[default]
    Missing,
}

impl NodeKind {
    pub fn from_word(word: &[u8]) -> Self {
        match word {
            b"file" => NodeKind::File,
            b"dir" => NodeKind::Dir,
            b"symlink" => NodeKind::Symlink,
            b"dev" => NodeKind::Dev,
            b"chardev" => NodeKind::CharDev,
            b"fifo" => NodeKind::Fifo,
            b"socket" => NodeKind::Socket,
            b"" => NodeKind::Missing,
            other => NodeKind::Other(other.into()),
        }
    }

    pub fn word(&self) -> &[u8] {
        match self {
            NodeKind::File => b"file",
            NodeKind::Dir => b"dir",
            NodeKind::Symlink => b"symlink",
            NodeKind::Dev => b"dev",
            NodeKind::CharDev => b"chardev",
            NodeKind::Fifo => b"fifo",
            NodeKind::Socket => b"socket",
            NodeKind::Other(word) => word,
            NodeKind::Missing => b"",
        }
    }
}

/// An extended attribute; a value of None is Go's nil, written as `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    pub name: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// A file, folder or other entry. `Default` is what restic has for a node without any field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Raw bytes, as the operating system has them.
    pub name: Vec<u8>,
    pub kind: NodeKind,
    /// Go's FileMode: see `mode`.
    pub mode: u32,
    pub mtime: Time,
    pub atime: Time,
    pub ctime: Time,
    pub uid: u32,
    pub gid: u32,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub inode: u64,
    pub device_id: u64,
    pub size: u64,
    pub links: u64,
    /// Raw bytes; written lossily and again as base64 where they aren't UTF-8.
    pub linktarget: Vec<u8>,
    /// In the order of the list that the file system gave.
    pub xattrs: Vec<Xattr>,
    /// The JSON of `generic_attributes` as it was, or empty.
    pub generic_attributes: Vec<u8>,
    /// `st_rdev` of a device.
    pub device: u64,
    /// The data blobs of a file, in order. None is `null`: wrong for a file, right for all else.
    pub content: Option<Vec<Id>>,
    pub subtree: Option<Id>,
    pub error: Vec<u8>,
}

/// Go's FileMode bits, and back and forth to `st_mode`.
pub mod mode {
    pub const DIR: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const FIFO: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHAR_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const IRREGULAR: u32 = 1 << 19;

    const SPECIAL: [(u32, u32); 3] = [(SETUID, libc::S_ISUID), (SETGID, libc::S_ISGID), (STICKY, libc::S_ISVTX)];

    /// Go's FileMode for an `st_mode`.
    pub fn from_stat(st_mode: u32) -> u32 {
        let kind = match st_mode & libc::S_IFMT {
            libc::S_IFREG => 0,
            libc::S_IFDIR => DIR,
            libc::S_IFLNK => SYMLINK,
            libc::S_IFBLK => DEVICE,
            libc::S_IFCHR => DEVICE | CHAR_DEVICE,
            libc::S_IFIFO => FIFO,
            libc::S_IFSOCK => SOCKET,
            _ => IRREGULAR,
        };
        let special = SPECIAL.iter().filter(|(_, unix)| st_mode & unix != 0).map(|(go, _)| go).sum::<u32>();
        kind | special | (st_mode & 0o777)
    }

    /// The twelve permission bits as `chmod` takes them.
    pub fn permissions(mode: u32) -> u32 {
        let special = SPECIAL.iter().filter(|(go, _)| mode & go != 0).map(|(_, unix)| unix).sum::<u32>();
        special | (mode & 0o777)
    }
}

#[cfg(test)]
mod tests {
    use super::mode;

    #[test]
    fn modes_match_samples_that_restic_wrote() {
        assert_eq!(mode::from_stat(0o040755), 2_147_484_141);
        assert_eq!(mode::from_stat(0o120777), 134_218_239);
        assert_eq!(mode::from_stat(0o100644), 420);
        assert_eq!(mode::from_stat(0o020666), 69_206_454);
        for unix in [0o104755, 0o102711, 0o041777, 0o106000] {
            assert_eq!(mode::permissions(mode::from_stat(unix)), unix & 0o7777);
        }
    }
}
