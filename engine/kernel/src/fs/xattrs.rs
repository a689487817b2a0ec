//! Extended attributes, access control lists among them, in the order in which the file system lists them.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::{Errno, Result};

use crate::node::Xattr;

/// Whose attributes are read.
pub enum Of<'a> {
    Open(BorrowedFd<'a>),
    /// By way of /proc, for what can't or need not be opened; the last component is not followed.
    Path(OsString),
}

impl Of<'_> {
    /// An entry of an open folder.
    pub fn entry(folder: impl AsFd, name: &[u8]) -> Self {
        let mut path = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        Self::Path(OsString::from_vec(path))
    }

    fn list(&self, out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(fd) => flistxattr(fd, out),
            Self::Path(path) => llistxattr(path, out),
        }
    }

    fn get(&self, name: &OsStr, out: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, out),
            Self::Path(path) => lgetxattr(path, name, out),
        }
    }
}

/// The longest list and the longest value that Linux has.
const LONGEST: usize = 64 << 10;

fn grown(call: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; 256];
    match call(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; LONGEST];
    let length = call(&mut large)?;
    large.truncate(length);
    Ok(large)
}

/// All attributes. What can't be read is left out and told: the attribute's name (empty for the whole list) and why.
pub fn read(of: &Of<'_>, mut problem: impl FnMut(&[u8], Errno)) -> Vec<Xattr> {
    let list = match grown(|out| of.list(out)) {
        Ok(list) => list,
        Err(Errno::NOTSUP) => return Vec::new(),
        Err(error) => {
            problem(b"", error);
            return Vec::new();
        }
    };
    let mut attributes = Vec::new();
    for name in list.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        match grown(|out| of.get(OsStr::from_bytes(name), out)) {
            Ok(value) => attributes.push(Xattr { name: name.to_vec(), value: Some(value) }),
            // Removed since the list was read.
            Err(Errno::NODATA) => {}
            Err(error) => problem(name, error),
        }
    }
    attributes
}
