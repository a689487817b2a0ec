//! Trees out of the walk's steps: each folder's nodes in order, each tree stored when its folder ends.

use std::io::{self, Write};
use std::sync::Arc;

use super::Shared;
use super::save::{Saver, Scratch};
use super::summary::{Summary, What};
use super::walk::Step;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::node::Node;
use crate::pack::BlobKind;
use crate::run::Event;
use crate::tree::{TreeError, TreeWriter};

/// A tree's bytes: as they are while they are few, compressed on the way from then on.
enum Sink {
    Plain { bytes: Vec<u8>, level: Option<i32> },
    Compressed(Box<zstd::Encoder<'static, Vec<u8>>>),
}

/// Longer trees are compressed while they are written.
const PLAIN: usize = 2 << 20;

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self {
            Self::Compressed(encoder) => encoder.write_all(piece)?,
            Self::Plain { bytes, level } => {
                bytes.extend_from_slice(piece);
                if let Some(level) = level.filter(|_| bytes.len() > PLAIN) {
                    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
                    encoder.include_checksum(false)?;
                    encoder.write_all(bytes)?;
                    *self = Self::Compressed(Box::new(encoder));
                }
            }
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Folder {
    node: Box<Node>,
    previous: Option<Arc<Node>>,
    path: Vec<u8>,
    writer: TreeWriter<Sink>,
    nodes: usize,
}

pub struct Assembler<'a> {
    shared: &'a Shared<'a>,
    saver: &'a Saver<'a>,
    scratch: Scratch,
    open: Vec<Folder>,
    summary: Summary,
}

fn tree_failed(error: TreeError) -> Error {
    Error::system(format!("a folder can't be encoded, which is a bug: {error}"))
}

impl<'a> Assembler<'a> {
    pub fn new(shared: &'a Shared<'a>, saver: &'a Saver<'a>) -> Result<Self> {
        Ok(Self { shared, saver, scratch: saver.scratch()?, open: Vec::new(), summary: Summary::default() })
    }

    /// Works until the walk ends; gives the root tree's id.
    pub fn run(mut self) -> Result<(Id, Summary)> {
        self.enter(Box::default(), None, Vec::new())?;
        while let Some(steps) = self.shared.steps.pop()? {
            steps.into_iter().try_for_each(|step| self.step(step))?;
        }
        let root = self.open.pop().filter(|root| root.nodes > 0);
        let root =
            root.ok_or_else(|| Error::invalid("nothing was found to back up, so there is no snapshot to make"))?;
        let id = self.store(root.writer)?;
        Ok((id, self.summary))
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Enter { node, previous, path } => self.enter(node, previous, path),
            Step::Leave => self.leave(),
            Step::Done { node, previous, path } => self.node(&node, previous.as_deref(), path),
            Step::File { number, previous, path } => match self.shared.completions.take(number)? {
                Some(node) => self.node(&node, previous.as_deref(), path),
                None => Ok(()),
            },
        }
    }

    fn enter(&mut self, node: Box<Node>, previous: Option<Arc<Node>>, path: Vec<u8>) -> Result<()> {
        let sink = Sink::Plain { bytes: Vec::new(), level: self.saver.level };
        let writer = TreeWriter::new(sink).map_err(tree_failed)?;
        self.open.push(Folder { node, previous, path, writer, nodes: 0 });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(mut folder) = self.open.pop() else { return Err(Error::system("the walk left a folder twice")) };
        folder.node.subtree = Some(self.store(folder.writer)?);
        self.node(&folder.node, folder.previous.as_deref(), folder.path)
    }

    fn node(&mut self, node: &Node, previous: Option<&Node>, path: Vec<u8>) -> Result<()> {
        let what = What::of(node, previous);
        self.summary.count(node, what);
        if self.shared.options.verbose {
            self.shared.core.emit(Event::ItemDone { path, action: what.word(), size: node.size })?;
        }
        let Some(folder) = self.open.last_mut() else { return Err(Error::system("a node lies in no folder")) };
        folder.nodes += 1;
        folder.writer.node(node).map_err(tree_failed)
    }

    fn store(&mut self, writer: TreeWriter<Sink>) -> Result<Id> {
        let (id, length, sink) = writer.finish().map_err(tree_failed)?;
        match sink {
            Sink::Plain { bytes, .. } => self.saver.save(&mut self.scratch, BlobKind::Tree, id, &bytes)?,
            Sink::Compressed(encoder) => {
                let frame =
                    encoder.finish().map_err(|e| Error::system(format!("a folder can't be compressed: {e}")))?;
                if self.saver.ledger.claim(BlobKind::Tree, id) {
                    self.saver.save_compressed(&mut self.scratch, BlobKind::Tree, id, &frame, length)?;
                }
            }
        }
        Ok(id)
    }
}
