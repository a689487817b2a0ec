//! Deletion of what the snapshot doesn't have, by descriptors, never across a mount point.

use std::collections::HashSet;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::place;
use super::root::{join, list_below};
use super::walk::Visited;
use super::{Session, add};
use crate::error::{Error, Result};
use crate::tree::TreeReader;
use crate::trees::TreeLoader;

/// Folders below a deleted one that may be open at once.
const DEEPEST: usize = 256;

/// Delete what is in a folder, was selected or set aside by us, and has no name in the folder's tree.
pub fn delete_unknown(session: &Session<'_>, folder: &Visited, loader: &mut TreeLoader<'_>) -> Result<()> {
    let path = &folder.place.path;
    if session.options.dry_run && folder.place.fresh {
        return Ok(());
    }
    let known = match known_names(folder, loader) {
        Ok(known) => known,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => return session.grave(path, "delete", format!("the folder cannot be read again: {error}")),
    };
    let listed = session.root().and_then(|root| {
        let fd = root.folder(path)?;
        let names = names_in(list_here(&fd)?)?;
        Ok((fd, names))
    });
    let (fd, names) = match listed {
        Ok(listed) => listed,
        Err(error) => return session.fault(path, "delete", format!("the folder cannot be listed: {error}")),
    };
    for name in names {
        let below = join(path, &name);
        let selected = place::is_set_aside(&name) || session.options.selects(&below).0;
        if known.contains(&name) || !selected || is_lost_and_found(path, &name, fd.as_fd()) {
            continue;
        }
        remove(session, fd.as_fd(), &name, &below, 0)?;
    }
    Ok(())
}

fn known_names(folder: &Visited, loader: &mut TreeLoader<'_>) -> Result<HashSet<Vec<u8>>> {
    let tree = loader.load(&folder.tree)?;
    let mut known = HashSet::new();
    for entry in TreeReader::new(&tree)? {
        known.insert(entry?.node.name);
    }
    Ok(known)
}

fn list_here(fd: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    list_below(fd.as_fd(), b".")
}

fn names_in(fd: OwnedFd) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The folder that ext4 makes for itself at the root of a file system.
fn is_lost_and_found(folder: &[u8], name: &[u8], fd: BorrowedFd<'_>) -> bool {
    let by_root = |stat: fs::Stat| place::kind(&stat) == FileType::Directory && stat.st_uid == 0;
    folder.is_empty() && name == b"lost+found" && place::look(fd, name).is_ok_and(|stat| stat.is_some_and(by_root))
}

/// Delete `name` and, where it is a folder, all that is in it. What fails is told, the rest goes on.
fn remove(session: &Session<'_>, folder: BorrowedFd<'_>, name: &[u8], path: &[u8], depth: usize) -> Result<()> {
    session.core.alive()?;
    session.core.progress().step();
    let told = |error: Errno| session.fault(path, "delete", format!("it cannot be deleted: {error}"));
    let stat = match place::look(folder, name) {
        Ok(Some(stat)) => stat,
        Ok(None) => return Ok(()),
        Err(error) => return told(error),
    };
    let mut flags = AtFlags::empty();
    if place::kind(&stat) == FileType::Directory {
        flags = AtFlags::REMOVEDIR;
        if depth >= DEEPEST {
            return session.fault(path, "delete", format!("it is not deleted: it nests deeper than {DEEPEST} folders"));
        }
        let inside = match list_below(folder, name) {
            Ok(inside) => inside,
            Err(error) => return told(error),
        };
        let names = match list_here(&inside).and_then(names_in) {
            Ok(names) => names,
            Err(error) => return told(error),
        };
        for child in names {
            remove(session, inside.as_fd(), &child, &join(path, &child), depth + 1)?;
        }
    }
    if !session.options.dry_run {
        match fs::unlinkat(folder, name, flags) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return told(error),
        }
    }
    add(&session.tally.files_deleted, 1);
    session.done(path, "deleted", stat.st_size.max(0) as u64)
}
