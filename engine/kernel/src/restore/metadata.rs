//! Owner, extended attributes, times and mode of what was restored, in this order: a change of owner clears set-id bits and
//! capabilities, attributes may change the mode.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{self, AtFlags, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::owners::Owners;
use super::walk::modified;
use crate::node::{Node, NodeKind, Xattr, mode};
use crate::time::Time;

/// What of a node is put on a file once its data is there: small, because all folders' are kept until the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    permissions: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    atime: Time,
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Extra {
    user: Vec<u8>,
    group: Vec<u8>,
    xattrs: Vec<Xattr>,
}

/// What the metadata is put on. A `Handle` is a descriptor of a regular file; a `Place` is one opened with O_PATH.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    Handle(BorrowedFd<'a>),
    Place(BorrowedFd<'a>),
}

/// A part of the metadata that could not be put there.
#[derive(Debug, PartialEq, Eq)]
pub struct Shortfall {
    pub during: &'static str,
    pub message: String,
    /// Nothing is lost that this file system could hold, or that was asked for.
    pub notice: bool,
}

impl Metadata {
    pub fn of(node: &mut Node) -> Self {
        let (user, group, xattrs) =
            (std::mem::take(&mut node.user), std::mem::take(&mut node.group), std::mem::take(&mut node.xattrs));
        let plain = user.is_empty() && group.is_empty() && xattrs.is_empty();
        Metadata {
            permissions: mode::permissions(node.mode),
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            atime: node.atime,
            extra: (!plain).then(|| Box::new(Extra { user, group, xattrs })),
        }
    }

    pub fn mtime(&self) -> Time {
        self.mtime
    }

    fn xattrs(&self) -> &[Xattr] {
        self.extra.as_ref().map_or(&[], |extra| &extra.xattrs)
    }

    /// Put all of it on `target`; what fails is told, the rest is done all the same.
    pub fn apply(&self, target: Target<'_>, kind: &NodeKind, owners: &Owners) -> Vec<Shortfall> {
        let mut shortfalls = Vec::new();
        let owned = self.apply_owner(target, owners, &mut shortfalls);
        if *kind != NodeKind::Symlink || !self.xattrs().is_empty() {
            self.apply_xattrs(target, &mut shortfalls);
        }
        // Whoever may not set them has not failed where they are so already.
        let are_so = || target.stat().is_ok_and(|stat| modified(&stat).same_instant(self.mtime));
        if let Err(error) = self.apply_times(target)
            && !are_so()
        {
            shortfalls.push(Shortfall::new("times", format!("the times cannot be set: {error}")));
        }
        if *kind != NodeKind::Symlink {
            self.apply_mode(target, owned, &mut shortfalls);
        }
        shortfalls
    }

    /// Whether the owner and group are as they were.
    fn apply_owner(&self, target: Target<'_>, owners: &Owners, shortfalls: &mut Vec<Shortfall>) -> bool {
        let (user, group) = self.extra.as_ref().map_or((&[][..], &[][..]), |extra| (&extra.user, &extra.group));
        let (uid, gid) = owners.resolve(self.uid, self.gid, user, group);
        let is_so = || target.stat().is_ok_and(|stat| (stat.st_uid, stat.st_gid) == (uid, gid));
        if !owners.wanted() {
            return is_so();
        }
        let Err(error) = target.change_owner(Some(uid), Some(gid)) else { return true };
        if is_so() {
            return true;
        }
        // Whoever may not give files away may still choose among the own groups.
        let _ = target.change_owner(None, Some(gid));
        let message = format!("the owner cannot be set to {uid}:{gid}: {error}");
        shortfalls.push(Shortfall::new("owner", message));
        false
    }

    fn apply_xattrs(&self, target: Target<'_>, shortfalls: &mut Vec<Shortfall>) {
        let wanted = self.xattrs();
        for xattr in wanted {
            let value = xattr.value.as_deref().unwrap_or_default();
            match target.set_xattr(&xattr.name, value) {
                Ok(()) => {}
                Err(_) if target.has_xattr(&xattr.name, value) => {}
                Err(error) => shortfalls.push(Shortfall {
                    during: "xattr",
                    message: format!("the attribute {} cannot be set: {error}", xattr.name.escape_ascii()),
                    notice: error == Errno::OPNOTSUPP || is_label(&xattr.name),
                }),
            }
        }
        let present = match target.list_xattrs() {
            Ok(present) => present,
            Err(Errno::OPNOTSUPP) => return,
            Err(error) => {
                let message = format!("the attributes cannot be listed: {error}");
                return shortfalls.push(Shortfall::new("xattr", message));
            }
        };
        for name in present.split(|&b| b == 0).filter(|name| is_ours_to_remove(name)) {
            if wanted.iter().any(|xattr| xattr.name == name) {
                continue;
            }
            match target.remove_xattr(name) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => {
                    let message = format!("the attribute {} cannot be removed: {error}", name.escape_ascii());
                    shortfalls.push(Shortfall::new("xattr", message));
                }
            }
        }
    }

    fn apply_times(&self, target: Target<'_>) -> Result<(), Errno> {
        let spec = |time: Time| Timespec { tv_sec: time.secs(), tv_nsec: time.nanos().into() };
        let times = Timestamps { last_access: spec(self.atime), last_modification: spec(self.mtime) };
        match target {
            Target::Handle(fd) => fs::futimens(fd, &times),
            Target::Place(fd) => match fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH) {
                // Kernels before 5.8.
                Err(Errno::INVAL) => fs::utimensat(fs::CWD, proc_path(fd), &times, AtFlags::empty()),
                other => other,
            },
        }
    }

    fn apply_mode(&self, target: Target<'_>, owned: bool, shortfalls: &mut Vec<Shortfall>) {
        let set_id = self.permissions & (libc::S_ISUID | libc::S_ISGID);
        let permissions = if owned { self.permissions } else { self.permissions & !set_id };
        if permissions != self.permissions {
            let message = "the set-id bits were left out, for they would work for another owner".to_owned();
            shortfalls.push(Shortfall { during: "mode", message, notice: true });
        }
        let mode = Mode::from_raw_mode(permissions);
        let is_so = || target.stat().is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode) == mode);
        if let Err(error) = target.change_mode(mode)
            && !is_so()
        {
            shortfalls.push(Shortfall::new("mode", format!("the mode cannot be set to {permissions:o}: {error}")));
        }
    }
}

impl Shortfall {
    fn new(during: &'static str, message: String) -> Self {
        Shortfall { during, message, notice: false }
    }
}

/// What a security module of the machine gives to files by its own rules (a cluster relabels volumes for each pod).
fn is_label(name: &[u8]) -> bool {
    name == b"security.selinux"
        || name.starts_with(b"security.SMACK64")
        || name == b"security.ima"
        || name == b"security.evm"
}

/// Labels of security modules and the like belong to the machine; what a file of a snapshot may carry itself is put right.
fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

/// A path that leads to what `fd` is open on, and not through it where that is a link.
fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Target<'_> {
    fn stat(self) -> Result<fs::Stat, Errno> {
        match self {
            Target::Handle(fd) | Target::Place(fd) => fs::fstat(fd),
        }
    }

    fn change_owner(self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = (uid.map(fs::Uid::from_raw), gid.map(fs::Gid::from_raw));
        match self {
            Target::Handle(fd) => fs::fchown(fd, uid, gid),
            Target::Place(fd) => fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    pub fn change_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Target::Handle(fd) => fs::fchmod(fd, mode),
            Target::Place(fd) => fs::chmod(proc_path(fd), mode),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Target::Handle(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Target::Place(fd) => fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()),
        }
    }

    /// Whether the attribute is there with this value. One that is longer isn't.
    fn has_xattr(self, name: &[u8], value: &[u8]) -> bool {
        let mut buffer = vec![0; value.len() + 1];
        let read = match self {
            Target::Handle(fd) => fs::fgetxattr(fd, name, &mut buffer[..]),
            Target::Place(fd) => fs::getxattr(proc_path(fd), name, &mut buffer[..]),
        };
        read.is_ok_and(|length| buffer[..length] == *value)
    }

    fn remove_xattr(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Target::Handle(fd) => fs::fremovexattr(fd, name),
            Target::Place(fd) => fs::removexattr(proc_path(fd), name),
        }
    }

    /// The names, each ended by a NUL.
    fn list_xattrs(self) -> Result<Vec<u8>, Errno> {
        let list = |buffer: &mut [u8]| match self {
            Target::Handle(fd) => fs::flistxattr(fd, buffer),
            Target::Place(fd) => fs::listxattr(proc_path(fd), buffer),
        };
        let mut names = vec![0; 256];
        loop {
            match list(&mut names[..]) {
                Ok(length) => {
                    names.truncate(length);
                    return Ok(names);
                }
                // The kernel's limit is 64 KiB.
                Err(Errno::RANGE) if names.len() < 1 << 17 => names.resize(names.len() * 4, 0),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Open `name` of a folder so that metadata can be put on it, whatever it is.
pub fn open_place(folder: BorrowedFd<'_>, name: &[u8]) -> Result<rustix::fd::OwnedFd, Errno> {
    use fs::OFlags;
    fs::openat(folder.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_machine_s_and_capabilities_are_the_file_s() {
        for label in [&b"security.selinux"[..], b"security.SMACK64", b"security.SMACK64EXEC", b"security.ima"] {
            assert!(is_label(label) && !is_ours_to_remove(label));
        }
        for own in [&b"security.capability"[..], b"user.selinux", b"trusted.x", b"system.posix_acl_default"] {
            assert!(!is_label(own) && is_ours_to_remove(own));
        }
    }

    #[test]
    fn an_attribute_that_is_there_already_needs_no_right() {
        let scratch = crate::restore::scratch::Scratch::new("xattr");
        let file = std::fs::File::create(scratch.path().join("f")).expect("a file");
        let place = open_place(fs::CWD, scratch.path().join("f").as_os_str().as_encoded_bytes()).expect("a place");
        for target in [Target::Handle(file.as_fd()), Target::Place(place.as_fd())] {
            if target.set_xattr(b"user.a", b"value") == Err(Errno::OPNOTSUPP) {
                return;
            }
            assert!(target.has_xattr(b"user.a", b"value"));
            for other in [&b"valu"[..], b"value2", b"other", b""] {
                assert!(!target.has_xattr(b"user.a", other));
            }
            assert!(!target.has_xattr(b"user.b", b""));
        }
    }
}
