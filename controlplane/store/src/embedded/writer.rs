//! The one writer: takes what is waiting, decides it, makes it durable in the journal at once, tells watchers, answers.
//!
//! Must not know: how requests came in, and how the store's file is written.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpointer;
use super::file::File;
use super::group::Group;
use super::hub::Hub;
use super::journal::{Appending, Journal, Segment};
use super::metrics::StoreMetrics;
use super::recent::{Change, Layer, Recent};
use super::view::View;
use crate::{Entry, Error, Event, Write, WriteError};

/// Writes that become durable together at most …
const GROUP: usize = 512;
/// … and bytes of values, unless a single one is larger.
const GROUP_BYTES: usize = 2 << 20;

pub type Answer<T> = oneshot::Sender<T>;

pub enum Request {
    Write { write: Write, answer: Answer<Result<Entry, WriteError>> },
    Compact { revision: u64, answer: Option<Answer<Result<(), Error>>> },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Write { write, .. } => write.value().map_or(0, |value| value.len()),
            Self::Compact { .. } => 0,
        }
    }
}

pub struct Writer {
    pub file: Arc<File>,
    pub recent: Arc<RwLock<Recent>>,
    pub journal: Journal,
    pub checkpointer: Checkpointer,
    /// Parts of the journal whose changes are on their way into the store's file.
    pub leaving: Vec<Segment>,
    /// The checkpointer was given them and has not said how it went.
    pub flushing: bool,
    pub hub: Arc<Hub>,
    pub requests: mpsc::Receiver<Request>,
    pub metrics: StoreMetrics,
    /// Revisions of history kept at most.
    pub max_history: u64,
}

/// What one request came to, held back until it is durable.
enum Outcome {
    Write(Answer<Result<Entry, WriteError>>, Result<Entry, Option<Entry>>),
    Compact(Option<Answer<Result<(), Error>>>, Result<(), Error>),
}

/// A group's result: what to keep, and what to tell whom.
struct Done {
    compacted: u64,
    changes: Vec<Arc<Change>>,
    events: Vec<Event>,
}

impl Writer {
    /// Runs until every sender is gone and everything they sent is done.
    pub fn run(mut self) {
        let mut waiting = Vec::new();
        while self.requests.blocking_recv_many(&mut waiting, GROUP) > 0 {
            let mut waiting = std::mem::take(&mut waiting).into_iter().peekable();
            while waiting.peek().is_some() {
                let mut bytes = 0;
                let mut group = Vec::new();
                while let Some(request) = waiting.next_if(|next| bytes == 0 || bytes + next.bytes() <= GROUP_BYTES) {
                    bytes += request.bytes();
                    group.push(request);
                }
                self.commit(group);
            }
        }
        self.hub.close();
    }

    fn commit(&mut self, group: Vec<Request>) {
        let begun = Instant::now();
        let mut outcomes = Vec::with_capacity(group.len());
        let mut undecided = group.into_iter();
        let durable = self
            .decide(&mut undecided, &mut outcomes)
            .and_then(|done| done.map(|done| self.make_durable(&done).map(|()| done)).transpose());
        match durable {
            Ok(done) => {
                if let Some(done) = done {
                    self.metrics.journal.observe(begun.elapsed().as_secs_f64());
                    self.publish(done);
                }
                outcomes.into_iter().for_each(Outcome::tell);
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a commit failed");
                // what was refused may have been refused for the sake of what is now undone
                outcomes.into_iter().for_each(|outcome| outcome.fail(&error));
                refuse(undecided, &error);
            }
        }
    }

    /// Decides the requests one after the other. `None` if nothing changes.
    fn decide(
        &self,
        requests: &mut impl Iterator<Item = Request>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<Option<Done>, Error> {
        if !self.file.is_open() {
            self.file.reopen()?;
        }
        self.file.read(
            || self.recent.read(),
            |tables, recent| {
                let (revision, compacted) = (recent.revision, recent.compacted);
                let view = View { tables, recent };
                let mut group = Group::new(&view, revision, compacted);
                for request in requests {
                    outcomes.push(match request {
                        Request::Write { write, answer } => {
                            let result = group.write(write)?;
                            Outcome::Write(answer, result)
                        }
                        Request::Compact { revision, answer } => Outcome::Compact(answer, group.compact(revision)),
                    });
                }
                let changed = !group.changes.is_empty() || group.compacted > compacted;
                let compacted = group.compacted.max(group.revision.saturating_sub(self.max_history));
                Ok(changed.then_some(Done { compacted, changes: group.changes, events: group.events }))
            },
        )
    }

    fn make_durable(&mut self, done: &Done) -> Result<(), Error> {
        let first = self.recent.read().revision + 1;
        for _ in 0..2 {
            match self.journal.append(first, done.compacted, &done.changes) {
                Ok(()) => return Ok(()),
                Err(Appending::Failed(error)) => return Err(error),
                Err(Appending::Full) => self.turn_over()?,
            }
        }
        Err(Error::Corrupt { what: "the store's journal".to_owned(), why: "a new file of it is full".to_owned() })
    }

    /// Sends what the full part of the journal holds on its way into the store's file, and begins the next part.
    fn turn_over(&mut self) -> Result<(), Error> {
        if !self.journal.has_begun() && self.journal.begin(&self.leaving).is_ok() {
            return Ok(());
        }
        self.settle()?;
        self.leaving.extend(self.journal.take_full()?);
        let layer = self.recent.write().freeze();
        match layer {
            Some(layer) => self.flush(layer),
            None => self.leaving.drain(..).for_each(|segment| self.journal.give_back(segment)),
        }
        self.journal.begin(&self.leaving).or_else(|_no_room| {
            self.settle()?;
            self.journal.begin(&[])
        })
    }

    fn flush(&mut self, layer: Arc<Layer>) {
        self.checkpointer.flush(layer);
        self.flushing = true;
    }

    /// Waits until nothing is on its way into the store's file. What failed is tried once more.
    fn settle(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for _ in 0..2 {
            if !self.flushing {
                let layer = self.recent.read().older();
                let Some(layer) = layer else { break };
                self.flush(layer);
            }
            outcome = self.checkpointer.wait();
            self.flushing = false;
            if outcome.is_ok() {
                break;
            }
        }
        outcome?;
        self.leaving.drain(..).for_each(|segment| self.journal.give_back(segment));
        Ok(())
    }

    fn publish(&mut self, done: Done) {
        let deletes = done.events.iter().filter(|event| matches!(event, Event::Delete { .. })).count() as u64;
        self.metrics.deletes.inc_by(deletes);
        self.metrics.puts.inc_by(done.events.len() as u64 - deletes);
        self.metrics.group.observe(done.events.len() as f64);
        self.metrics.compacted.set(done.compacted.cast_signed());
        self.recent.write().extend(&done.changes, done.compacted);
        match done.changes.last() {
            Some(last) => {
                self.metrics.revision.set(last.revision.cast_signed());
                self.hub.publish(done.events, last.revision);
            }
            None => self.checkpointer.sweep(),
        }
    }
}

fn refuse(group: impl Iterator<Item = Request>, error: &Error) {
    for request in group {
        match request {
            // an answer that nobody waits for any more is no failure, here and below
            Request::Write { answer, .. } => drop(answer.send(Err(error.clone().into()))),
            Request::Compact { answer, .. } => drop(answer.map(|answer| answer.send(Err(error.clone())))),
        }
    }
}

impl Outcome {
    fn tell(self) {
        match self {
            Self::Write(answer, result) => drop(answer.send(result.map_err(WriteError::Conflict))),
            Self::Compact(answer, result) => drop(answer.map(|answer| answer.send(result))),
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Self::Write(answer, _) => drop(answer.send(Err(error.clone().into()))),
            Self::Compact(answer, _) => drop(answer.map(|answer| answer.send(Err(error.clone())))),
        }
    }
}
