//! Pieces of packs that a run asks for. A ticket is answered once, by any thread, with bytes or with a refusal.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Close, lock};
use crate::error::{Error, Result};
use crate::id::Id;

/// Bytes that somebody else owns.
pub type Piece = Box<dyn AsRef<[u8]> + Send + Sync>;

enum Answer {
    Open,
    Given(Piece),
    Refused(String),
    Cancelled,
}

struct Ticket {
    answer: Mutex<Answer>,
    answered: Condvar,
    pack: Id,
    length: u32,
}

impl Ticket {
    fn settle(&self, answer: Answer) {
        let mut current = lock(&self.answer);
        if matches!(*current, Answer::Open) {
            *current = answer;
            drop(current);
            self.answered.notify_all();
        }
    }
}

/// A piece that was asked for and may not be there yet.
pub struct Pending(Arc<Ticket>);

impl Pending {
    /// Waits for the piece: exactly as long as asked for. A refusal is `Error::Refused`.
    pub fn wait(self) -> Result<Piece> {
        let mut answer = lock(&self.0.answer);
        loop {
            match std::mem::replace(&mut *answer, Answer::Cancelled) {
                Answer::Open => {
                    *answer = Answer::Open;
                    answer = self.0.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
                }
                Answer::Given(piece) => return Ok(piece),
                Answer::Refused(why) => {
                    return Err(Error::Refused(format!("pack {} can't be read: {why}", self.0.pack)));
                }
                Answer::Cancelled => return Err(Error::Cancelled),
            }
        }
    }
}

#[derive(Default)]
pub struct Tickets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Arc<Ticket>>,
    last: u64,
    closed: bool,
}

impl Tickets {
    /// A number that no other question of this run has.
    pub fn number(&self) -> u64 {
        let mut state = lock(&self.state);
        state.last += 1;
        state.last
    }

    pub fn open(&self, pack: Id, length: u32) -> Result<(u64, Pending)> {
        let number = self.number();
        let ticket = Ticket { answer: Mutex::new(Answer::Open), answered: Condvar::new(), pack, length };
        let ticket = Arc::new(ticket);
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Error::Cancelled);
        }
        state.open.insert(number, Arc::clone(&ticket));
        Ok((number, Pending(ticket)))
    }

    fn take(&self, number: u64) -> Result<Option<Arc<Ticket>>> {
        let mut state = lock(&self.state);
        match state.open.remove(&number) {
            Some(ticket) => Ok(Some(ticket)),
            None if state.closed => Ok(None),
            None => Err(Error::invalid(format!("no question with the ticket {number} is open"))),
        }
    }

    /// Answers a ticket; bytes of another length than asked for are a refusal. After the run's end, answers are dropped.
    pub fn provide(&self, number: u64, piece: Piece) -> Result<()> {
        if let Some(ticket) = self.take(number)? {
            let found = (*piece).as_ref().len();
            ticket.settle(if found == ticket.length as usize {
                Answer::Given(piece)
            } else {
                Answer::Refused(format!("{found} bytes came instead of {}", ticket.length))
            });
        }
        Ok(())
    }

    pub fn refuse(&self, number: u64, why: String) -> Result<()> {
        if let Some(ticket) = self.take(number)? {
            ticket.settle(Answer::Refused(why));
        }
        Ok(())
    }
}

impl Close for Tickets {
    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let open = std::mem::take(&mut state.open);
        drop(state);
        open.values().for_each(|t| t.settle(Answer::Cancelled));
    }
}
