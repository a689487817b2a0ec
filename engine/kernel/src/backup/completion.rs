//! Files that are being read, and whoever waits for them in the order of the walk.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::node::Node;
use crate::run::{Close, lock};

/// Results of files by their numbers; None for a file that could not be read.
#[derive(Default)]
pub struct Completions {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    done: HashMap<u64, Option<Box<Node>>>,
    /// The number that is waited for.
    wanted: Option<u64>,
    closed: bool,
}

impl Completions {
    pub fn put(&self, number: u64, node: Option<Box<Node>>) {
        let mut state = lock(&self.state);
        state.done.insert(number, node);
        let wanted = state.wanted == Some(number);
        drop(state);
        if wanted {
            self.changed.notify_all();
        }
    }

    /// Waits for a file's result. Only one thread takes.
    pub fn take(&self, number: u64) -> Result<Option<Box<Node>>> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Err(Error::Cancelled);
            }
            if let Some(node) = state.done.remove(&number) {
                state.wanted = None;
                return Ok(node);
            }
            state.wanted = Some(number);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Close for Completions {
    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}

/// A file whose chunks are hashed and stored by any thread. It is complete when it is read to its end and all chunks are done.
pub struct Assembly {
    number: u64,
    completions: Arc<Completions>,
    state: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    /// Zeros where a chunk is missing.
    content: Vec<Id>,
    missing: usize,
    /// Set when the file was read to its end; the inner None where that failed.
    node: Option<Option<Box<Node>>>,
}

impl Assembly {
    pub fn new(number: u64, completions: Arc<Completions>) -> Self {
        Self { number, completions, state: Mutex::new(Parts::default()) }
    }

    /// The place of the next chunk.
    pub fn reserve(&self) -> usize {
        let mut parts = lock(&self.state);
        parts.content.push(Id([0; 32]));
        parts.missing += 1;
        parts.content.len() - 1
    }

    pub fn chunk_done(&self, place: usize, id: Id) {
        let mut parts = lock(&self.state);
        parts.content[place] = id;
        parts.missing -= 1;
        self.complete(&mut parts);
    }

    pub fn read_to_end(&self, node: Option<Box<Node>>) {
        let mut parts = lock(&self.state);
        parts.node = Some(node);
        self.complete(&mut parts);
    }

    fn complete(&self, parts: &mut Parts) {
        if parts.missing > 0 {
            return;
        }
        let Some(mut node) = parts.node.take() else { return };
        if let Some(node) = &mut node {
            node.content = Some(std::mem::take(&mut parts.content));
        }
        self.completions.put(self.number, node);
    }
}
