//! What became of each pack and blob: absent, pending, stored.
//!
//! A blob is pending from the moment a thread claims it until the storage's save of its pack returned; only then may an index name
//! it. A second occurrence of a pending blob is not stored again: if its pack can't be saved, the run ends without a snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{self, Index, PackContents};
use crate::pack::BlobKind;
use crate::run::{Close, Core, Event, lock};

/// An index is written early when it has this many blobs, as restic does.
const INDEX_BLOBS: usize = 50_000;

pub struct Ledger {
    index: Arc<Index>,
    index_packs: usize,
    index_after: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: HashSet<(BlobKind, Id)>,
    /// Packs that were handed out and not acknowledged.
    saving: HashMap<Id, PackContents>,
    /// Acknowledged packs that no index names yet, and since when there is one.
    stored: Vec<PackContents>,
    since: Option<Instant>,
    /// Index files that were handed out, with their number of packs.
    indexes: HashMap<u64, usize>,
    flush: bool,
    complete: bool,
    closed: bool,
}

impl State {
    fn due(&self, packs: usize, after: Duration) -> bool {
        !self.stored.is_empty()
            && (self.flush
                || self.stored.len() >= packs
                || self.complete && self.saving.is_empty()
                || self.since.is_some_and(|s| s.elapsed() >= after)
                || self.stored.iter().map(|p| p.entries.len()).sum::<usize>() >= INDEX_BLOBS)
    }

    fn all_done(&self) -> bool {
        self.complete && self.saving.is_empty() && self.stored.is_empty() && self.indexes.is_empty()
    }
}

impl Ledger {
    pub fn new(index: Arc<Index>, index_packs: usize, index_after: Duration) -> Self {
        let state = Mutex::new(State::default());
        Self { index, index_packs: index_packs.max(1), index_after, state, changed: Condvar::new() }
    }

    /// Whether the caller is the one to store this blob: it is neither stored nor pending.
    pub fn claim(&self, kind: BlobKind, id: Id) -> bool {
        let mut state = lock(&self.state);
        !self.index.contains(kind, &id) && state.pending.insert((kind, id))
    }

    /// A pack is about to be handed out.
    pub fn saving(&self, contents: PackContents) {
        lock(&self.state).saving.insert(contents.pack, contents);
    }

    /// The storage's save of a pack returned.
    pub fn pack_stored(&self, pack: Id) -> Result<()> {
        let mut state = lock(&self.state);
        if state.closed {
            return Ok(());
        }
        let contents = state
            .saving
            .remove(&pack)
            .ok_or_else(|| Error::invalid(format!("pack {pack} was not handed out, or was acknowledged before")))?;
        self.index.add_pack(&contents)?;
        for entry in &contents.entries {
            state.pending.remove(&(entry.kind, entry.id));
        }
        state.stored.push(contents);
        state.since.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// The storage's save of an index file returned.
    pub fn index_stored(&self, ticket: u64) -> Result<()> {
        let mut state = lock(&self.state);
        if state.indexes.remove(&ticket).is_none() && !state.closed {
            return Err(Error::invalid(format!("no index with the ticket {ticket} is to be stored")));
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Asks for an index of all that is acknowledged by now.
    pub fn flush(&self) {
        lock(&self.state).flush = true;
        self.changed.notify_all();
    }

    /// How many acknowledged packs are in no acknowledged index yet.
    pub fn unindexed(&self) -> usize {
        let state = lock(&self.state);
        state.stored.len() + state.indexes.values().sum::<usize>()
    }

    /// No further pack comes.
    pub fn complete(&self) {
        lock(&self.state).complete = true;
        self.changed.notify_all();
    }

    /// Hands out index files when they are due; returns once `complete` was said and everything is acknowledged.
    pub fn write_indexes(&self, core: &Core) -> Result<()> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Err(Error::Cancelled);
            }
            if state.all_done() {
                return Ok(());
            }
            if state.due(self.index_packs, self.index_after) {
                let packs = std::mem::take(&mut state.stored);
                let ticket = core.ticket();
                state.indexes.insert(ticket, packs.len());
                state.since = None;
                state.flush = false;
                drop(state);
                let ids = packs.iter().map(|p| p.pack).collect();
                core.emit(Event::IndexReady { ticket, packs: ids, json: index::encode(&packs) })?;
                state = lock(&self.state);
                continue;
            }
            state.flush = false;
            let left = state.since.map(|s| self.index_after.saturating_sub(s.elapsed()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl Close for Ledger {
    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}
