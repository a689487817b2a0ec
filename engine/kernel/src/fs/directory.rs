//! Folders: opening what is in them, and listing them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Stat, openat, statat};
use rustix::io::{Errno, Result};

fn open_quietly(folder: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let name = OsStr::from_bytes(name);
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // Only a file's owner may leave its access time alone.
    match openat(&folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&folder, name, flags, Mode::empty()),
        other => other,
    }
}

/// Opens a file of `folder` to read it. Does not wait for the other end of a FIFO.
pub fn open_file(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    open_quietly(folder, name, OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens a folder of `folder`.
pub fn open_folder(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    open_quietly(folder, name, OFlags::DIRECTORY)
}

/// Opens the folder at a path that a person gave, through symbolic links; as a place to start from, which needs no right to read.
pub fn open_path(path: &[u8]) -> Result<OwnedFd> {
    let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
    openat(rustix::fs::CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// As `lstat`.
pub fn stat(folder: impl AsFd, name: &[u8]) -> Result<Stat> {
    statat(folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
}

/// The names in an open folder, sorted by their bytes.
pub fn list(folder: impl AsFd) -> Result<Vec<Box<[u8]>>> {
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name.into_boxed_slice());
        }
    }
    names.sort_unstable();
    // A folder that changes while it is listed may give a name twice.
    names.dedup();
    Ok(names)
}
