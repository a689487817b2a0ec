//! The walk: one thread goes through the folders in the order of the trees, compares with the parent, and says what to do.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::Shared;
use super::completion::Assembly;
use super::parent::{self, Cursor};
use super::read::FileJob;
use super::targets::{self, Branch};
use crate::error::{Error, Result};
use crate::fs::xattrs::Of;
use crate::fs::{directory, metadata};
use crate::node::{Node, NodeKind};
use crate::pack::BlobKind;
use crate::run::Progress;
use crate::trees::TreeLoader;

/// What the tree is made of, in its order.
pub enum Step {
    /// A folder begins.
    Enter { node: Box<Node>, previous: Option<Arc<Node>>, path: Vec<u8> },
    /// The innermost folder ends.
    Leave,
    /// A node that is complete.
    Done { node: Box<Node>, previous: Option<Arc<Node>>, path: Vec<u8> },
    /// A file that is being read: its number in `Completions`.
    File { number: u64, previous: Option<Arc<Node>>, path: Vec<u8> },
}

/// Deeper folders are told as errors: each level costs a descriptor and stack.
const DEEPEST: usize = 4000;
pub const STACK: usize = 256 << 20;

pub struct Walk<'a> {
    shared: &'a Shared<'a>,
    /// Of the parent snapshot.
    trees: TreeLoader<'a>,
    /// Where the walk is: in the file system (absolute), and in the snapshot.
    path: Vec<u8>,
    inside: Vec<u8>,
    depth: usize,
    /// The device of the target at hand.
    device: u64,
    files: u64,
    steps: Vec<Step>,
}

/// Steps are handed on in bundles, because waking the other thread costs more than a step.
const BUNDLE: usize = 64;

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the type differs between architectures")]
fn device(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

impl<'a> Walk<'a> {
    pub fn new(shared: &'a Shared<'a>) -> Result<Self> {
        Ok(Self {
            shared,
            trees: TreeLoader::new(shared.core, shared.key, shared.index)?,
            path: Vec::new(),
            inside: Vec::new(),
            depth: 0,
            device: 0,
            files: 0,
            steps: Vec::new(),
        })
    }

    pub fn run(mut self, root: &Branch) -> Result<()> {
        let tree = parent::load(self.shared.core, &mut self.trees, self.shared.options.parent, b"/")?;
        self.branches(root, Cursor::new(tree.as_deref()))?;
        self.shared.core.progress().scan_finished.store(true, std::sync::atomic::Ordering::Relaxed);
        self.shared.files.finish();
        self.shared.steps.push(self.steps)?;
        self.shared.steps.finish();
        Ok(())
    }

    fn problem(&self, during: &'static str, message: impl ToString, notice: bool) -> Result<()> {
        self.shared.core.item_error(&self.path, during, message.to_string(), notice)
    }

    fn step(&mut self, step: Step) -> Result<()> {
        self.steps.push(step);
        if self.steps.len() < BUNDLE { Ok(()) } else { self.shared.steps.push(std::mem::take(&mut self.steps)) }
    }

    fn inside(&self) -> Vec<u8> {
        if self.shared.options.verbose { self.inside.clone() } else { Vec::new() }
    }

    /// Goes one level down in the snapshot, to `name`.
    fn within<T>(&mut self, name: &[u8], work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.inside.len();
        self.inside.push(b'/');
        self.inside.extend_from_slice(name);
        let result = work(self);
        self.inside.truncate(before);
        result
    }

    fn branches(&mut self, branch: &Branch, mut parents: Cursor<'_>) -> Result<()> {
        for (name, child) in &branch.children {
            let previous = parents.find(name);
            self.within(name, |walk| match &child.path {
                Some(path) if child.children.is_empty() => walk.target(path, child.found_in.as_deref(), name, previous),
                _ => walk.above_targets(child, name, previous),
            })?;
        }
        Ok(())
    }

    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if path.first() == Some(&b'/') { path.to_vec() } else { targets::join(&self.shared.working_folder, path) }
    }

    /// A folder that is in the snapshot because targets are below it.
    fn above_targets(&mut self, branch: &Branch, name: &[u8], previous: Option<Node>) -> Result<()> {
        self.path = self.absolute(&branch.folder);
        let opened = directory::open_path(&branch.folder).and_then(|folder| Ok((fstat(&folder)?, folder)));
        let (stat, folder) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.problem("open", error, false),
        };
        let mut node = self.shared.describer.node(name, &stat, previous.as_ref());
        // Whoever backs up a folder need not be allowed to ask about those above it.
        for unread in metadata::add_xattrs(&mut node, &Of::entry(&folder, b".")).into_iter().filter(|u| !u.denied) {
            self.problem("xattr", unread.why, !unread.all)?;
        }
        let tree = parent::load(self.shared.core, &mut self.trees, parent::subtree(previous.as_ref()), &self.path)?;
        self.step(Step::Enter { node: Box::new(node), previous: previous.map(Arc::new), path: self.inside() })?;
        self.branches(branch, Cursor::new(tree.as_deref()))?;
        self.step(Step::Leave)
    }

    /// What is given itself is backed up whatever the filters say; what is found in a target is an entry like any other.
    fn target(&mut self, path: &[u8], found_in: Option<&[u8]>, as_name: &[u8], previous: Option<Node>) -> Result<()> {
        self.path = self.absolute(path);
        let slash = path.iter().rposition(|b| *b == b'/');
        let (above, name) = match slash {
            Some(0) => (&b"/"[..], &path[1..]),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        let found = directory::open_path(above).and_then(|folder| Ok((directory::stat(&folder, name)?, folder)));
        let (stat, folder) = match found {
            Ok(found) => found,
            Err(error) => return self.problem("stat", error, false),
        };
        let Some(target) = found_in else {
            self.device = device(&stat);
            return self.item(&Arc::new(folder), name, as_name, previous, None);
        };
        let tagged = self.tagged(&folder)?;
        if self.shared.filter.rejects_tagged(&tagged, name) {
            return Ok(());
        }
        let devices = directory::open_path(target).and_then(|t| Ok((device(&fstat(&t)?), device(&fstat(&folder)?))));
        let (of_target, above) = match devices {
            Ok(devices) => devices,
            Err(error) => return self.problem("stat", error, false),
        };
        self.device = of_target;
        self.item(&Arc::new(folder), name, as_name, previous, Some(above))
    }

    fn tagged(&self, folder: &OwnedFd) -> Result<super::filter::Tagged> {
        self.shared.filter.tagged(folder, |name, why| {
            self.problem("exclude", format!("whether {} is there can't be told: {why}", name.escape_ascii()), true)
        })
    }

    fn xattrs(&self, node: &mut Node, of: &Of<'_>) -> Result<()> {
        metadata::add_xattrs(node, of).into_iter().try_for_each(|u| self.problem("xattr", u.why, !u.all))
    }

    /// An entry of a folder; `listed_in` is the folder's device, None for a target that was given itself.
    fn item(
        &mut self,
        folder: &Arc<OwnedFd>,
        name: &[u8],
        as_name: &[u8],
        previous: Option<Node>,
        listed_in: Option<u64>,
    ) -> Result<()> {
        if listed_in.is_some() && self.shared.filter.rejects_path(&self.path) {
            return Ok(());
        }
        let stat = match directory::stat(folder, name) {
            Ok(stat) => stat,
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) if listed_in.is_some() => {
                return self.problem("stat", format!("it was gone before it could be looked at: {error}"), true);
            }
            Err(error) => return self.problem("stat", error, false),
        };
        let kind = metadata::kind(&stat);
        if listed_in.is_some_and(|above| {
            self.shared.filter.rejects_file(&kind, &stat) || self.on_other_device(&stat, &kind, above)
        }) {
            return Ok(());
        }
        match kind {
            NodeKind::Dir => self.folder(folder, name, as_name, previous),
            NodeKind::File => self.file(folder, name, as_name, &stat, previous),
            NodeKind::Socket => self.problem("stat", "a socket has no content to back up", true),
            NodeKind::Symlink | NodeKind::Dev | NodeKind::CharDev | NodeKind::Fifo => {
                let mut node = self.shared.describer.node(as_name, &stat, previous.as_ref());
                if kind == NodeKind::Symlink {
                    match readlinkat(folder, name, Vec::new()) {
                        Ok(target) => node.linktarget = target.into_bytes(),
                        Err(error) => return self.problem("readlink", error, false),
                    }
                }
                self.xattrs(&mut node, &Of::entry(folder, name))?;
                self.done(node, previous.map(Arc::new))
            }
            NodeKind::Other(_) | NodeKind::Missing => self.problem("stat", "it is of no known type", false),
        }
    }

    /// A mount point is kept as the folder that it is; what is on another device is not.
    fn on_other_device(&self, stat: &Stat, kind: &NodeKind, listed_in: u64) -> bool {
        self.shared.options.one_file_system
            && device(stat) != self.device
            && !(*kind == NodeKind::Dir && listed_in == self.device)
    }

    fn done(&mut self, node: Node, previous: Option<Arc<Node>>) -> Result<()> {
        self.step(Step::Done { node: Box::new(node), previous, path: self.inside() })
    }

    fn folder(&mut self, above: &Arc<OwnedFd>, name: &[u8], as_name: &[u8], previous: Option<Node>) -> Result<()> {
        if self.depth >= DEEPEST {
            return self.problem("open", format!("it lies more than {DEEPEST} folders deep"), false);
        }
        let opened = directory::open_folder(above, name).and_then(|folder| {
            let stat = fstat(&folder)?;
            Ok((stat, directory::list(&folder)?, folder))
        });
        let (stat, names, folder) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.problem("open", error, false),
        };
        self.shared.core.progress().step();
        let mut node = self.shared.describer.node(as_name, &stat, previous.as_ref());
        self.xattrs(&mut node, &Of::Open(folder.as_fd()))?;
        let tagged = self.tagged(&folder)?;
        let tree = parent::load(self.shared.core, &mut self.trees, parent::subtree(previous.as_ref()), &self.path)?;
        let mut parents = Cursor::new(tree.as_deref());
        self.step(Step::Enter { node: Box::new(node), previous: previous.map(Arc::new), path: self.inside() })?;
        let (folder, device) = (Arc::new(folder), device(&stat));
        let length = self.path.len();
        self.depth += 1;
        for name in &names {
            if self.shared.filter.rejects_tagged(&tagged, name) {
                continue;
            }
            if self.path.last() != Some(&b'/') {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let previous = parents.find(name);
            self.within(name, |walk| walk.item(&folder, name, name, previous, Some(device)))?;
            self.path.truncate(length);
        }
        self.depth -= 1;
        self.shared.core.alive()?;
        self.step(Step::Leave)
    }

    fn file(
        &mut self,
        folder: &Arc<OwnedFd>,
        name: &[u8],
        as_name: &[u8],
        stat: &Stat,
        previous: Option<Node>,
    ) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let progress = self.shared.core.progress();
        Progress::add(&progress.files_total, 1);
        Progress::add(&progress.bytes_total, size);
        if let Some(before) = previous.as_ref().filter(|b| self.unchanged(b, stat, size)) {
            let content = before.content.clone().unwrap_or_default();
            if content.iter().all(|id| self.shared.index.contains(BlobKind::Data, id)) {
                let mut node = self.shared.describer.node(as_name, stat, Some(before));
                self.xattrs(&mut node, &Of::entry(folder, name))?;
                node.content = Some(content);
                Progress::add(&progress.files_done, 1);
                Progress::add(&progress.bytes_done, size);
                return self.done(node, previous.map(Arc::new));
            }
            self.problem("parent", "parts of it are no longer in the repository: it is read and stored again", true)?;
        }
        let previous = previous.filter(|p| p.kind == NodeKind::File).map(Arc::new);
        let number = self.files;
        self.files += 1;
        self.shared.files.push(FileJob {
            assembly: Arc::new(Assembly::new(number, Arc::clone(&self.shared.completions))),
            folder: Arc::clone(folder),
            name: name.to_vec(),
            as_name: as_name.to_vec(),
            path: self.path.clone(),
            previous: previous.clone(),
        })?;
        self.step(Step::File { number, previous, path: self.inside() })
    }

    /// restic's test: type, size, times and inode; that the content is still there is asked elsewhere.
    fn unchanged(&self, before: &Node, stat: &Stat, size: u64) -> bool {
        let options = &self.shared.options;
        !options.force
            && before.kind == NodeKind::File
            && before.content.is_some()
            && before.size == size
            && before.mtime.same_instant(metadata::mtime(stat))
            && (options.ignore_ctime || before.ctime.same_instant(metadata::ctime(stat)))
            && (options.ignore_inode || before.inode == inode(stat))
    }
}

#[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
fn inode(stat: &Stat) -> u64 {
    stat.st_ino as u64
}

/// The working folder, for relative targets.
pub fn working_folder() -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let folder = std::env::current_dir().map_err(|e| Error::system(format!("the working folder is not known: {e}")))?;
    Ok(folder.into_os_string().into_vec())
}
