//! Trees still to be checked, in groups that lie near each other: a thread that has read one finds the others in what it read.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::run::{Close, lock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    pub id: Id,
    /// A tree that names it; None for a root.
    pub parent: Option<Id>,
}

/// A stretch of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(Id, u32);

impl Default for Group {
    fn default() -> Self {
        Group(Id([0; 32]), 0)
    }
}

impl Group {
    pub fn of(pack: Id, offset: u32) -> Self {
        Group(pack, offset >> 22)
    }
}

#[derive(Default)]
pub struct Ahead {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<Group, Vec<Tree>>,
    busy: usize,
    closed: bool,
}

impl Ahead {
    pub fn add(&self, group: Group, tree: Tree) {
        lock(&self.state).groups.entry(group).or_default().push(tree);
        self.changed.notify_one();
    }

    /// The next group, `last` first; None once nothing is left and no thread can find more. Call `done` after each.
    pub fn take(&self, last: Option<Group>) -> Result<Option<(Group, Vec<Tree>)>> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Err(Error::Cancelled);
            }
            let same = last.and_then(|last| state.groups.remove_entry(&last));
            if let Some(next) = same.or_else(|| state.groups.pop_first()) {
                state.busy += 1;
                return Ok(Some(next));
            }
            if state.busy == 0 {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn done(&self) {
        lock(&self.state).busy -= 1;
        self.changed.notify_all();
    }
}

impl Close for Ahead {
    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(n: u8) -> Tree {
        Tree { id: Id([n; 32]), parent: None }
    }

    #[test]
    fn gives_the_same_group_again_first_and_ends_when_nobody_can_add() {
        let ahead = Ahead::default();
        let (near, far) = (Group::of(Id([1; 32]), 5), Group::of(Id([2; 32]), 5 << 22));
        ahead.add(far, tree(1));
        ahead.add(near, tree(2));
        ahead.add(far, tree(3));
        assert_eq!(ahead.take(Some(far)), Ok(Some((far, vec![tree(1), tree(3)]))));
        ahead.done();
        assert_eq!(ahead.take(Some(far)), Ok(Some((near, vec![tree(2)]))));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| ahead.take(None));
            ahead.add(far, tree(4));
            ahead.done();
            assert_eq!(waiter.join().expect("no panic"), Ok(Some((far, vec![tree(4)]))));
            ahead.done();
        });
        assert_eq!(ahead.take(None), Ok(None));
        ahead.close();
        assert_eq!(ahead.take(None), Err(Error::Cancelled));
    }
}
