//! What comes after all data is written: hard links, deletion, and the folders' own metadata, children before their parents.

use std::sync::atomic::Ordering::Relaxed;

use rustix::fd::AsFd;
use rustix::fs::{self, AtFlags};
use rustix::io::{Errno, retry_on_intr};

use super::delete;
use super::metadata::Target;
use super::place::{self, Identity};
use super::walk::{HardLink, Visited, Walked, modified};
use super::{Session, add};
use crate::error::Result;
use crate::node::NodeKind;
use crate::run::{Progress, lock};
use crate::trees::TreeLoader;

pub fn finish(session: &Session<'_>, walked: Walked) -> Result<()> {
    for link in &walked.hard_links {
        session.core.alive()?;
        restore_link(session, link)?;
    }
    sync(session)?;
    if session.options.delete {
        delete_what_is_not_in_the_snapshot(session, &walked.folders)?;
    }
    for folder in walked.folders.iter().rev().filter(|folder| folder.made) {
        session.core.alive()?;
        restore_folder(session, folder)?;
    }
    Ok(())
}

/// A write that the system had taken may still fail: that is told, and what is to be deleted may be the only other copy.
fn sync(session: &Session<'_>) -> Result<()> {
    if session.options.dry_run {
        return Ok(());
    }
    match session.root().and_then(|root| root.folder_to_list(b"")).and_then(|fd| retry_on_intr(|| fs::syncfs(&fd))) {
        Ok(()) => Ok(()),
        Err(error) => session.grave(b"", "sync", format!("the data cannot be brought to the disk: {error}")),
    }
}

fn restore_link(session: &Session<'_>, link: &HardLink) -> Result<()> {
    let path = super::root::join(&link.folder.path, &link.name);
    let original = super::root::join(&link.original.0.path, &link.original.1);
    if lock(&session.failed).contains(&original) {
        let message = format!("its data could not be restored under its other name, {}", original.escape_ascii());
        return session.grave(&path, "link", message);
    }
    let action = if session.options.dry_run && link.folder.fresh { Ok("restored") } else { make_link(session, link) };
    Progress::add(&session.core.progress().files_done, 1);
    match action {
        Ok(action) => {
            let skipped = matches!(action, "skipped" | "unchanged");
            add(if skipped { &session.tally.files_skipped } else { &session.tally.files_restored }, 1);
            session.done(&path, action, 0)
        }
        Err(error) => {
            session.grave(&path, "link", format!("it cannot be linked to {}: {error}", original.escape_ascii()))
        }
    }
}

fn make_link(session: &Session<'_>, link: &HardLink) -> std::result::Result<&'static str, Errno> {
    let root = session.root()?;
    let folder = root.folder(&link.folder.path)?;
    let there = place::look(folder.as_fd(), &link.name)?;
    if let Some(stat) = &there
        && !session.options.overwrite.replaces(link.mtime, modified(stat))
    {
        return Ok("skipped");
    }
    if session.options.dry_run {
        return Ok(if there.is_some() { "updated" } else { "restored" });
    }
    let (original, name) = (root.folder(&link.original.0.path)?, &link.original.1[..]);
    let target = place::look(original.as_fd(), name)?.ok_or(Errno::NOENT)?;
    if there.is_some_and(|stat| Identity::from(&stat) == Identity::from(&target)) {
        return Ok("unchanged");
    }
    place::with_room(folder.as_fd(), &link.name, session.full_folder(), || {
        fs::linkat(&original, name, &folder, &link.name[..], AtFlags::empty())
    })?;
    Ok(if there.is_some() { "updated" } else { "restored" })
}

fn delete_what_is_not_in_the_snapshot(session: &Session<'_>, folders: &[Visited]) -> Result<()> {
    let mut loader = TreeLoader::new(session.core, session.key, session.index)?;
    for folder in folders.iter().rev().filter(|folder| folder.made && folder.complete) {
        session.core.alive()?;
        let reason = lock(&session.kept).clone();
        if let Some(reason) = reason {
            let mut message = format!("nothing (more) was deleted, because the restore is not whole: {reason}");
            if session.aside.load(Relaxed) {
                message += &format!("; folders that were in a file's way are kept as {}*", place::ASIDE);
            }
            return session.fault(b"", "delete", message);
        }
        delete::delete_unknown(session, folder, &mut loader)?;
    }
    Ok(())
}

fn restore_folder(session: &Session<'_>, folder: &Visited) -> Result<()> {
    let Some(metadata) = &folder.metadata else { return Ok(()) };
    let path = &folder.place.path;
    if !session.options.dry_run {
        match session.root().and_then(|root| root.folder(path)) {
            Ok(fd) => {
                let shortfalls = metadata.apply(Target::Place(fd.as_fd()), &NodeKind::Dir, &session.owners);
                session.shortfalls(path, shortfalls)?;
            }
            Err(error) => return session.fault(path, "metadata", format!("the folder cannot be opened: {error}")),
        }
    }
    // The target itself is no folder that a pattern has matched.
    if !path.is_empty() {
        session.tally.dirs_restored.fetch_add(1, Relaxed);
    }
    session.done(path, "folder", 0)
}
