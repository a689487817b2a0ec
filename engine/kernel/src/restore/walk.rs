//! The walk over the snapshot's trees: makes folders, links and special files, and hands files out in batches.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, FileType, Mode};
use rustix::io::Errno;

use super::batch::{Batch, FileJob};
use super::linked;
use super::metadata::{Metadata, Target, open_place};
use super::place::{self, FullFolder};
use super::root::{is_safe_name, join};
use super::{Overwrite, Session, add};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::node::{Node, NodeKind};
use crate::run::{Progress, Queue};
use crate::time::Time;
use crate::tree::{TreeError, TreeReader};
use crate::trees::TreeLoader;

/// Deeper than any path that the system can name at once.
const DEEPEST: u32 = 4096;

/// A folder of the target, shared by what lies in it.
pub struct Folder {
    pub path: Vec<u8>,
    /// Nothing can be in it but what this restore put there.
    pub fresh: bool,
}

/// A folder of the snapshot, in the order of the walk: parents come before their children.
pub struct Visited {
    pub place: Arc<Folder>,
    parent: usize,
    depth: u32,
    /// Something in it may be selected.
    below: bool,
    pub tree: Id,
    pub metadata: Option<Metadata>,
    /// It is there, because it or something below it was to be restored.
    pub made: bool,
    /// Its tree could be read to the end.
    pub complete: bool,
}

/// Another name for a file that the walk has met before.
pub struct HardLink {
    pub folder: Arc<Folder>,
    pub name: Vec<u8>,
    pub mtime: Time,
    pub original: (Arc<Folder>, Vec<u8>),
}

#[derive(Default)]
pub struct Walked {
    pub folders: Vec<Visited>,
    pub hard_links: Vec<HardLink>,
}

struct Original {
    folder: Arc<Folder>,
    name: Vec<u8>,
    content: u64,
}

struct Walk<'s, 'a> {
    session: &'s Session<'a>,
    batches: &'s Queue<Batch>,
    batch: Batch,
    walked: Walked,
    originals: HashMap<(u64, u64), Original>,
    /// Numbers of folders still to be visited, the next one last.
    ahead: Vec<usize>,
    /// Files that wait until all names are known.
    waiting: Vec<FileJob>,
}

/// Walk the whole tree; files are in `batches` when this returns.
pub fn walk(session: &Session<'_>, batches: &Queue<Batch>) -> Result<Walked> {
    let mut loader = TreeLoader::new(session.core, session.key, session.index)?;
    let (tree, metadata) = find_folder(session, &mut loader, &session.options.subfolder)?;
    let place = Arc::new(Folder { path: Vec::new(), fresh: session.root.is_none() });
    let top = Visited { place, parent: 0, depth: 0, below: true, tree, metadata, made: true, complete: false };
    let mut walk = Walk {
        session,
        batches,
        batch: Batch::default(),
        walked: Walked { folders: vec![top], hard_links: Vec::new() },
        originals: HashMap::new(),
        ahead: vec![0],
        waiting: Vec::new(),
    };
    while let Some(number) = walk.ahead.pop() {
        session.core.alive()?;
        session.core.progress().step();
        walk.visit(number, &mut loader)?;
    }
    session.core.progress().scan_finished.store(true, Relaxed);
    let mut waiting = std::mem::take(&mut walk.waiting);
    linked::count_names(session, &mut waiting, &walk.walked.hard_links)?;
    for job in waiting {
        walk.hand_out(job)?;
    }
    batches.push(walk.batch)?;
    Ok(walk.walked)
}

/// The tree of a folder to restore, and its own metadata where that is asked for and known.
pub fn find_folder(session: &Session<'_>, loader: &mut TreeLoader<'_>, path: &[u8]) -> Result<(Id, Option<Metadata>)> {
    let options = session.options;
    let shown = path.escape_ascii();
    let (mut tree, mut metadata) = (options.tree, None);
    for component in path.split(|&b| b == b'/').filter(|c| !c.is_empty() && *c != b".") {
        let bytes = loader.load(&tree)?;
        let mut found = None;
        for entry in TreeReader::new(&bytes)?.tolerant() {
            let node = entry?.node;
            if node.name == component {
                found = Some(node);
                break;
            }
        }
        let mut node = found.ok_or_else(|| Error::invalid(format!("the snapshot has no folder {shown}")))?;
        tree = node.subtree.ok_or_else(|| Error::invalid(format!("{shown} is no folder in the snapshot")))?;
        metadata = options.root_metadata.then(|| Metadata::of(&mut node));
    }
    Ok((tree, metadata))
}

impl Walk<'_, '_> {
    fn visit(&mut self, number: usize, loader: &mut TreeLoader<'_>) -> Result<()> {
        let session = self.session;
        let path = self.walked.folders[number].place.path.clone();
        let tree = match loader.load(&self.walked.folders[number].tree) {
            Ok(tree) => tree,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => return session.grave(&path, "read", format!("the folder cannot be read: {error}")),
        };
        let reader = match TreeReader::new(&tree) {
            Ok(reader) => reader,
            Err(error) => return session.grave(&path, "read", format!("the folder cannot be read: {error}")),
        };
        let first_child = self.walked.folders.len();
        let mut complete = true;
        let mut open = None;
        for entry in reader {
            match entry {
                Ok(entry) => self.take(number, entry.node, &mut open)?,
                Err(error) => {
                    complete &= matches!(error, TreeError::NotAscending { .. });
                    session.grave(&path, "read", format!("the folder is damaged: {error}"))?;
                }
            }
        }
        self.walked.folders[number].complete = complete;
        // Children are visited in their order, each with all below it.
        let children = first_child..self.walked.folders.len();
        self.ahead.extend(children.rev().filter(|&child| self.walked.folders[child].below));
        Ok(())
    }

    fn take(&mut self, number: usize, node: Node, open: &mut Option<OwnedFd>) -> Result<()> {
        let session = self.session;
        let folder = &self.walked.folders[number].place;
        if !is_safe_name(&node.name) {
            let message = format!("a name in it is refused: \"{}\"", node.name.escape_ascii());
            return session.grave(&folder.path, "name", message);
        }
        let path = join(&folder.path, &node.name);
        let (selected, below) = session.options.selects(&path);
        if node.kind == NodeKind::Dir {
            return if selected || below { self.take_folder(number, node, path, selected, below) } else { Ok(()) };
        }
        if !selected {
            return Ok(());
        }
        match node.kind {
            NodeKind::File | NodeKind::Symlink | NodeKind::Dev | NodeKind::CharDev | NodeKind::Fifo => {}
            NodeKind::Socket => {
                return session.notice(&path, "restore", "a socket is made by its program, not restored");
            }
            _ => {
                let word = node.kind.word().escape_ascii().to_string();
                return session.grave(&path, "restore", format!("it is of an unknown kind, \"{word}\""));
            }
        }
        Progress::add(&session.core.progress().files_total, 1);
        if let Err(error) = self.make(number) {
            return session.grave(&path, "restore", format!("its folder cannot be made: {error}"));
        }
        if node.kind == NodeKind::File {
            return self.take_file(number, node, path);
        }
        if open.is_none() && (!session.options.dry_run || !self.walked.folders[number].place.fresh) {
            match session.root().and_then(|root| root.folder(&self.walked.folders[number].place.path)) {
                Ok(fd) => *open = Some(fd),
                Err(error) => return session.grave(&path, "restore", format!("its folder cannot be opened: {error}")),
            }
        }
        let fresh = self.walked.folders[number].place.fresh;
        self.take_special(node, &path, open.as_ref().map(OwnedFd::as_fd), fresh)
    }

    fn take_folder(&mut self, parent: usize, mut node: Node, path: Vec<u8>, selected: bool, below: bool) -> Result<()> {
        let session = self.session;
        let Some(tree) = node.subtree else {
            return session.grave(&path, "restore", "it is a folder without a tree");
        };
        let depth = self.walked.folders[parent].depth + 1;
        if depth > DEEPEST {
            return session.grave(&path, "restore", format!("folders nest deeper than {DEEPEST}"));
        }
        let place = Arc::new(Folder { path, fresh: false });
        let metadata = Some(Metadata::of(&mut node));
        self.walked.folders.push(Visited { place, parent, depth, below, tree, metadata, made: false, complete: false });
        let number = self.walked.folders.len() - 1;
        if selected && let Err(error) = self.make(number) {
            let failed = self.walked.folders.pop();
            let path = failed.map(|folder| folder.place.path.clone()).unwrap_or_default();
            return session.grave(&path, "restore", format!("the folder cannot be made: {error}"));
        }
        Ok(())
    }

    /// Make a folder and those above it, unless they are there.
    fn make(&mut self, number: usize) -> std::result::Result<(), Errno> {
        let mut missing = vec![number];
        while let Some(&last) = missing.last()
            && !self.walked.folders[last].made
        {
            missing.push(self.walked.folders[last].parent);
        }
        missing.pop();
        for number in missing.into_iter().rev() {
            let folder = &self.walked.folders[number];
            let fresh = make_folder(self.session, &self.walked.folders[folder.parent].place, &folder.place.path)?;
            let folder = &mut self.walked.folders[number];
            folder.made = true;
            if fresh {
                folder.place = Arc::new(Folder { path: folder.place.path.clone(), fresh });
            }
        }
        Ok(())
    }

    fn take_file(&mut self, number: usize, mut node: Node, path: Vec<u8>) -> Result<()> {
        let session = self.session;
        let content = match node.content.take() {
            Some(content) => content,
            None if node.size == 0 => Vec::new(),
            None => return session.grave(&path, "restore", "it is a file without a list of its blobs"),
        };
        let folder = Arc::clone(&self.walked.folders[number].place);
        let mut is_original = false;
        if node.links > 1 {
            let mut hash = DefaultHasher::new();
            content.hash(&mut hash);
            let original = Original { folder: Arc::clone(&folder), name: node.name.clone(), content: hash.finish() };
            match self.originals.get(&(node.inode, node.device_id)) {
                // Where the snapshot lacks device ids, two files may have one number.
                Some(before) if before.content == original.content => {
                    let before = (Arc::clone(&before.folder), before.name.clone());
                    let link = HardLink { folder, name: node.name, mtime: node.mtime, original: before };
                    self.walked.hard_links.push(link);
                    return Ok(());
                }
                Some(_) => {}
                None => {
                    is_original = true;
                    self.originals.insert((node.inode, node.device_id), original);
                }
            }
        }
        Progress::add(&session.core.progress().bytes_total, node.size);
        let metadata = Metadata::of(&mut node);
        let (size, linked) = (node.size, node.links > 1);
        let job = FileJob { folder, path, name: node.name, metadata, content, size, linked, names: None };
        if is_original && self.waiting.len() < linked::MOST_WAITING && linked::has_names(session, &job) {
            self.waiting.push(job);
            return Ok(());
        }
        self.hand_out(job)
    }

    fn hand_out(&mut self, job: FileJob) -> Result<()> {
        if self.batch.add(job) {
            self.batches.push(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    fn take_special(&self, node: Node, path: &[u8], folder: Option<BorrowedFd<'_>>, fresh: bool) -> Result<()> {
        let session = self.session;
        let mut node = node;
        let Some(folder) = folder else {
            return self.special_done(path, &session.tally.files_restored, "restored");
        };
        let there = match if fresh { Ok(None) } else { place::look(folder, &node.name) } {
            Ok(there) => there,
            Err(error) => return session.grave(path, "restore", error.to_string()),
        };
        if let Some(stat) = &there
            && !session.options.overwrite.replaces(node.mtime, modified(stat))
        {
            return self.special_done(path, &session.tally.files_skipped, "skipped");
        }
        if session.options.dry_run {
            let action = if there.is_some() { "updated" } else { "restored" };
            return self.special_done(path, &session.tally.files_restored, action);
        }
        let full = session.full_folder();
        if let Err(error) = make_special(folder, &node, there.as_ref(), full) {
            return session.grave(path, "restore", format!("it cannot be made: {error}"));
        }
        let metadata = Metadata::of(&mut node);
        match open_place(folder, &node.name) {
            Ok(fd) => {
                session.shortfalls(path, metadata.apply(Target::Place(fd.as_fd()), &node.kind, &session.owners))?
            }
            Err(error) => session.fault(path, "restore", format!("its metadata cannot be set: {error}"))?,
        }
        self.special_done(path, &session.tally.files_restored, if there.is_some() { "updated" } else { "restored" })
    }

    fn special_done(&self, path: &[u8], counter: &std::sync::atomic::AtomicU64, action: &'static str) -> Result<()> {
        add(counter, 1);
        Progress::add(&self.session.core.progress().files_done, 1);
        self.session.done(path, action, 0)
    }
}

impl Session<'_> {
    pub fn full_folder(&self) -> FullFolder<'_> {
        if self.options.delete { FullFolder::SetAside(&self.aside) } else { FullFolder::Keep }
    }
}

/// When what is there was last modified.
pub fn modified(stat: &fs::Stat) -> Time {
    Time::from_unix(stat.st_mtime, stat.st_mtime_nsec as u32)
}

/// Make one folder (0700) in `parent`; whether it wasn't there before.
fn make_folder(session: &Session<'_>, parent: &Folder, path: &[u8]) -> std::result::Result<bool, Errno> {
    if session.options.dry_run {
        return Ok(parent.fresh || session.root()?.folder(path).is_err());
    }
    let name = &path[path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1)..];
    let above = session.root()?.folder(&parent.path)?;
    let make = || match fs::mkdirat(&above, name, Mode::RWXU) {
        Err(Errno::EXIST) => {
            let there = place::look(above.as_fd(), name)?.ok_or(Errno::EXIST)?;
            match place::kind(&there) {
                FileType::Directory => open_up(above.as_fd(), name, &there).map(|()| false),
                _ if session.options.overwrite == Overwrite::Never => Err(Errno::NOTDIR),
                _ => Err(Errno::EXIST),
            }
        }
        made => made.map(|()| true),
    };
    place::with_room(above.as_fd(), name, FullFolder::Keep, make)
}

/// Let the owner, where that is us without root's rights, into a folder that is there; its mode is put right at the end.
fn open_up(above: BorrowedFd<'_>, name: &[u8], stat: &fs::Stat) -> std::result::Result<(), Errno> {
    let user = rustix::process::geteuid();
    if stat.st_mode & 0o700 == 0o700 || user.is_root() || stat.st_uid != user.as_raw() {
        return Ok(());
    }
    let fd = open_place(above, name)?;
    Target::Place(fd.as_fd()).change_mode(Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700))
}

fn make_special(
    folder: BorrowedFd<'_>,
    node: &Node,
    there: Option<&fs::Stat>,
    full: FullFolder<'_>,
) -> std::result::Result<(), Errno> {
    let name = &node.name[..];
    let mode = Mode::RUSR | Mode::WUSR;
    match node.kind {
        NodeKind::Symlink => {
            let is_link = there.is_some_and(|stat| place::kind(stat) == FileType::Symlink);
            if is_link && fs::readlinkat(folder, name, Vec::new())?.as_bytes() == node.linktarget {
                return Ok(());
            }
            place::with_room(folder, name, full, || fs::symlinkat(&node.linktarget[..], folder, name))
        }
        NodeKind::Fifo => place::with_room(folder, name, full, || fs::mknodat(folder, name, FileType::Fifo, mode, 0)),
        NodeKind::Dev | NodeKind::CharDev => {
            let kind = if node.kind == NodeKind::Dev { FileType::BlockDevice } else { FileType::CharacterDevice };
            place::with_room(folder, name, full, || fs::mknodat(folder, name, kind, mode, node.device))
        }
        _ => Err(Errno::INVAL),
    }
}
