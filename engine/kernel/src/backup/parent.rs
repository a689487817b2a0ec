//! The parent snapshot's trees, read along with the walk.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::node::{Node, NodeKind};
use crate::run::Core;
use crate::tree::TreeReader;
use crate::trees::TreeLoader;

/// The bytes of a parent's tree. One that can't be read is told, and the walk goes on without it: a parent only saves work.
pub fn load(core: &Core, loader: &mut TreeLoader<'_>, tree: Option<Id>, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(id) = tree else { return Ok(None) };
    match loader.load(&id) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error @ (Error::Damaged(_) | Error::Refused(_))) => {
            let message =
                format!("the parent snapshot's folder can't be read, so everything in it is read again: {error}");
            core.item_error(path, "parent", message, true)?;
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

/// Finds names in a tree, in ascending order.
pub struct Cursor<'t> {
    reader: Option<TreeReader<'t>>,
    next: Option<Node>,
}

impl<'t> Cursor<'t> {
    pub fn new(tree: Option<&'t [u8]>) -> Self {
        Self { reader: tree.and_then(|t| TreeReader::new(t).ok()), next: None }
    }

    /// The parent's node of this name. What is not in order or can't be decoded counts as absent, as does all that follows it.
    pub fn find(&mut self, name: &[u8]) -> Option<Node> {
        loop {
            if self.next.is_none() {
                match self.reader.as_mut()?.next() {
                    Some(Ok(entry)) => self.next = Some(entry.node),
                    _ => self.reader = None,
                }
            }
            if self.next.as_ref()?.name[..] >= *name {
                break;
            }
            self.next = None;
        }
        self.next.take_if(|node| node.name == name)
    }
}

/// The tree below a parent's node.
pub fn subtree(node: Option<&Node>) -> Option<Id> {
    node.filter(|n| n.kind == NodeKind::Dir).and_then(|n| n.subtree)
}
