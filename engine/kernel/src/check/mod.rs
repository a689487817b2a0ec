//! The structure of snapshots: every tree below the roots loads, and all that it names is there.

mod ahead;
mod used;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::node::{Node, NodeKind};
use crate::pack::BlobKind;
use crate::restore::is_safe_name;
use crate::run::{Core, Event, Outcome, Progress};
use crate::seal::Key;
use crate::tree::TreeReader;
use crate::trees::TreeLoader;
use ahead::{Ahead, Group, Tree};
pub use used::Used;

struct Walk<'a> {
    core: &'a Core,
    key: &'a Key,
    index: &'a Index,
    used: &'a Used,
    ahead: Arc<Ahead>,
    trees: AtomicU64,
}

/// The whole job, on a thread of a run. `used` has a mark afterwards for each blob that a tree or a root names.
pub fn run(core: &Core, key: &Key, index: &Index, roots: &[Id], used: &Used) -> Result<Outcome> {
    let ahead = Arc::new(Ahead::default());
    let weak: std::sync::Weak<Ahead> = Arc::downgrade(&ahead);
    core.adopt(weak);
    let walk = Walk { core, key, index, used, ahead, trees: AtomicU64::new(0) };
    for root in roots {
        walk.find(Tree { id: *root, parent: None }, "the root of a snapshot")?;
    }
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    core.scope(|scope| {
        for _ in 1..threads {
            scope.spawn("check", || walk.work())?;
        }
        walk.work()
    })?;
    core.progress().scan_finished.store(true, Relaxed);
    let summary = vec![("trees", walk.trees.load(Relaxed)), ("blobs_used", used.count())];
    Ok(Outcome { root: None, summary })
}

impl Walk<'_> {
    fn work(&self) -> Result<()> {
        let mut loader = TreeLoader::new(self.core, self.key, self.index)?;
        let mut last = None;
        while let Some((group, trees)) = self.ahead.take(last)? {
            for tree in trees {
                self.core.alive()?;
                self.check(&tree, &mut loader)?;
                self.trees.fetch_add(1, Relaxed);
                Progress::add(&self.core.progress().files_done, 1);
            }
            self.ahead.done();
            last = Some(group);
        }
        Ok(())
    }

    fn problem(&self, kind: &'static str, message: String) -> Result<()> {
        Progress::add(&self.core.progress().errors, 1);
        self.core.emit(Event::Problem { kind, message })
    }

    /// Mark a tree and, the first time that it is met, put it ahead.
    fn find(&self, tree: Tree, role: &str) -> Result<()> {
        let within = tree.parent.map(|parent| format!(" in tree {parent}")).unwrap_or_default();
        let Some(number) = self.index.number(BlobKind::Tree, &tree.id) else {
            return self.problem("MissingTree", format!("tree {}, {role}{within}, is not in the index", tree.id));
        };
        if !self.used.mark(number) {
            return Ok(());
        }
        Progress::add(&self.core.progress().files_total, 1);
        let place = self.index.locate(BlobKind::Tree, &tree.id);
        let group = place.first().map_or(Group::default(), |at| Group::of(at.pack, at.offset));
        self.ahead.add(group, tree);
        Ok(())
    }

    fn check(&self, tree: &Tree, loader: &mut TreeLoader<'_>) -> Result<()> {
        let id = tree.id;
        let bytes = match loader.load(&id) {
            Ok(bytes) => bytes,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => return self.problem("DamagedTree", format!("tree {id} cannot be loaded: {error}")),
        };
        Progress::add(&self.core.progress().bytes_done, bytes.len() as u64);
        let reader = match TreeReader::new(&bytes) {
            Ok(reader) => reader,
            Err(error) => return self.problem("DamagedTree", format!("tree {id} cannot be decoded: {error}")),
        };
        let mut last: Option<Vec<u8>> = None;
        for entry in reader.tolerant() {
            let node = match entry {
                Ok(entry) => entry.node,
                Err(error) => {
                    return self.problem("DamagedTree", format!("tree {id} cannot be decoded: {error}"));
                }
            };
            if last.as_ref().is_some_and(|last| node.name <= *last) {
                let name = node.name.escape_ascii();
                self.problem("UnsortedTree", format!("tree {id} has the name \"{name}\" out of order or twice"))?;
            }
            self.check_node(id, &node)?;
            last = Some(node.name);
        }
        Ok(())
    }

    fn check_node(&self, tree: Id, node: &Node) -> Result<()> {
        let name = node.name.escape_ascii();
        if node.name.is_empty() {
            self.problem("NamelessNode", format!("tree {tree} has a node with an empty name"))?;
        } else if !is_safe_name(&node.name) {
            self.problem("UnsafeName", format!("tree {tree} has a node with the name \"{name}\": restore refuses it"))?;
        }
        match &node.kind {
            NodeKind::File => self.check_content(tree, node),
            NodeKind::Dir => match node.subtree {
                Some(subtree) if subtree.0 != [0; 32] => {
                    self.find(Tree { id: subtree, parent: Some(tree) }, &format!("the folder \"{name}\""))
                }
                _ => self.problem("MissingSubtree", format!("tree {tree} has the folder \"{name}\" without a tree")),
            },
            NodeKind::Symlink | NodeKind::Dev | NodeKind::CharDev | NodeKind::Fifo | NodeKind::Socket => Ok(()),
            NodeKind::Other(_) | NodeKind::Missing => {
                let word = node.kind.word().escape_ascii();
                self.problem("UnknownType", format!("tree {tree} has \"{name}\" of the unknown type \"{word}\""))
            }
        }
    }

    fn check_content(&self, tree: Id, node: &Node) -> Result<()> {
        let name = node.name.escape_ascii();
        let Some(content) = &node.content else {
            let message = format!("tree {tree} has the file \"{name}\" without a list of blobs");
            return self.problem("MissingContent", message);
        };
        for blob in content {
            match self.index.number(BlobKind::Data, blob) {
                Some(number) => drop(self.used.mark(number)),
                None => {
                    let message = format!("blob {blob} of the file \"{name}\" in tree {tree} is not in the index");
                    self.problem("MissingBlob", message)?;
                }
            }
        }
        Ok(())
    }
}
