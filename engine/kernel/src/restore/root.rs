//! Folders below the target of a restore, reached by descriptors only.
//!
//! Nothing here follows a symbolic link or leaves the target, whatever another process does meanwhile: `openat2` with BENEATH and
//! NO_SYMLINKS, or component by component where the kernel (or a seccomp filter) doesn't know that call.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Paths of up to this many bytes are resolved in one call (the kernel's limit is 4095).
const STRETCH: usize = 3000;

/// The target folder. Paths are relative to it, without a leading slash; the empty path is the target itself.
pub struct Root {
    fd: OwnedFd,
    one_call: AtomicBool,
}

/// A name in a folder that is one component and nothing else.
pub fn is_safe_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Root {
    /// Open the target, which must be a folder; links in its own path are the caller's wish and are followed.
    pub fn open(target: &[u8]) -> Result<Self, Errno> {
        Ok(Root { fd: fs::open(target, FOLDER, Mode::empty())?, one_call: AtomicBool::new(true) })
    }

    #[cfg(test)]
    fn without_openat2(self) -> Self {
        self.one_call.store(false, Ordering::Relaxed);
        self
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A descriptor (O_PATH) of a folder. ELOOP or ENOTDIR where a component is a link or no folder.
    pub fn folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_below(path, FOLDER)
    }

    /// As `folder`, but readable, and never across a mount point.
    pub fn folder_to_list(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        list_below(self.folder(path)?.as_fd(), b".")
    }

    fn open_below(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        let mut rest = path;
        loop {
            let (now, later) = split_stretch(rest);
            let base = at.as_ref().map_or(self.fd(), |fd| fd.as_fd());
            let opened = self.step(base, if now.is_empty() { b"." } else { now }, flags)?;
            match later {
                None => return Ok(opened),
                Some(later) => (at, rest) = (Some(opened), later),
            }
        }
    }

    fn step(&self, base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if self.one_call.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            loop {
                match fs::openat2(base, path, flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
                    // The kernel gives up where something was renamed meanwhile.
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(Errno::NOSYS | Errno::PERM) => break,
                    other => return other,
                }
            }
        }
        let opened = by_component(base, path, flags)?;
        // It is the call that isn't allowed, for the same path opens without it.
        self.one_call.store(false, Ordering::Relaxed);
        Ok(opened)
    }
}

fn by_component(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    for component in path.split(|&b| b == b'/') {
        if component != b"." && !is_safe_name(component) {
            return Err(Errno::INVAL);
        }
        let from = at.as_ref().map_or(base, |fd| fd.as_fd());
        at = Some(fs::openat(from, component, flags | OFlags::NOFOLLOW, Mode::empty())?);
    }
    at.ok_or(Errno::INVAL)
}

/// A readable descriptor of the folder `name` in `base`; EXDEV where something else is mounted there.
pub fn list_below(base: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = fs::openat(base, name, flags, Mode::empty())?;
    if fs::fstat(&opened)?.st_dev != fs::fstat(base)?.st_dev {
        return Err(Errno::XDEV);
    }
    Ok(opened)
}

/// The first components of a path that one call can take, and what is left after their slash.
fn split_stretch(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    if path.len() <= STRETCH {
        return (path, None);
    }
    let before = path[..STRETCH].iter().rposition(|&b| b == b'/');
    let cut = before.or_else(|| path.iter().position(|&b| b == b'/'));
    cut.map_or((path, None), |cut| (&path[..cut], Some(&path[cut + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn roots(path: &std::path::Path) -> [Root; 2] {
        let open = || Root::open(path.as_os_str().as_bytes()).expect("the target opens");
        [open(), open().without_openat2()]
    }

    #[test]
    fn names() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(!is_safe_name(bad), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b".a", b"\xff", b"a\\b", b" "] {
            assert!(is_safe_name(good), "{good:?}");
        }
    }

    #[test]
    fn folders_are_found_and_links_are_not_followed() {
        let scratch = crate::restore::scratch::Scratch::new("root");
        let top = scratch.path();
        std::fs::create_dir_all(top.join("in/a/b")).expect("folders");
        std::fs::create_dir_all(top.join("out/secret")).expect("folders");
        symlink(top.join("out"), top.join("in/absolute")).expect("a link");
        symlink("../out", top.join("in/relative")).expect("a link");
        symlink("a", top.join("in/inside")).expect("a link");
        std::fs::write(top.join("in/file"), b"x").expect("a file");
        for root in roots(&top.join("in")) {
            let found = fs::fstat(root.folder(b"a/b").expect("a folder")).expect("stat");
            assert_eq!(found.st_ino, std::fs::metadata(top.join("in/a/b")).expect("stat").ino());
            assert!(root.folder(b"").is_ok());
            for bad in [
                "absolute",
                "absolute/secret",
                "relative/secret",
                "inside/b",
                "file",
                "../out",
                "a/../../out",
                "/",
                "missing",
            ] {
                assert!(root.folder(bad.as_bytes()).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn paths_may_be_longer_than_the_kernel_takes_at_once() {
        let scratch = crate::restore::scratch::Scratch::new("deep");
        let name = [b'd'; 200];
        for root in roots(scratch.path()) {
            let mut path = Vec::new();
            for _ in 0..40 {
                let parent = root.folder(&path).expect("a folder");
                match fs::mkdirat(&parent, &name[..], Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => panic!("{error}"),
                }
                path = join(&path, &name);
            }
            assert!(path.len() > 8000);
            assert!(root.folder(&path).is_ok());
        }
    }
}
