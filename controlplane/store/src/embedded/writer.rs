//! The one writer: takes what is waiting, applies it in one transaction, commits once, tells watchers, answers.
//!
//! Must not know: how requests came in.

use std::sync::Arc;
use std::time::Instant;

use redb::{ReadableTable as _, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::file::File;
use super::hub::Hub;
use super::metrics::StoreMetrics;
use super::tables::{self, Checked, Fault, INDEX, LOG, META, Meta, Record, index_row};
use crate::{Entry, Error, Event, Write, WriteError};

/// Writes that share one commit at most.
const GROUP: usize = 512;
/// Log records that one commit sweeps at most: a bound on how long a write waits for compaction.
const SWEEP: u64 = 512;

pub type Answer<T> = oneshot::Sender<T>;

pub enum Request {
    Write { write: Write, answer: Answer<Result<Entry, WriteError>> },
    Compact { revision: u64, answer: Option<Answer<Result<(), Error>>> },
}

pub struct Writer {
    pub file: Arc<File>,
    pub hub: Arc<Hub>,
    pub requests: mpsc::Receiver<Request>,
    pub metrics: StoreMetrics,
    /// As committed.
    pub meta: Meta,
    /// Revisions of history kept at most.
    pub max_history: u64,
}

/// What one request came to, held back until the commit.
enum Outcome {
    Write(Answer<Result<Entry, WriteError>>, Result<Entry, Option<Entry>>),
    Compact(Option<Answer<Result<(), Error>>>, Result<(), Error>),
}

/// A transaction's result: what to tell whom once it is durable.
struct Done {
    meta: Meta,
    events: Vec<Event>,
}

impl Writer {
    /// Runs until every sender is gone and everything they sent is done.
    pub fn run(mut self) {
        let mut group = Vec::new();
        while self.gather(&mut group) {
            self.commit(std::mem::take(&mut group));
        }
        self.hub.close();
    }

    /// Waits for requests, unless there is something to sweep meanwhile. False once there will be none.
    fn gather(&mut self, group: &mut Vec<Request>) -> bool {
        if self.meta.swept >= self.meta.compacted || !self.file.is_open() {
            return self.requests.blocking_recv_many(group, GROUP) > 0;
        }
        while group.len() < GROUP {
            match self.requests.try_recv() {
                Ok(request) => group.push(request),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return !group.is_empty(),
            }
        }
        true
    }

    fn commit(&mut self, group: Vec<Request>) {
        let begun = Instant::now();
        if !self.file.is_open()
            && let Err(error) = self.recover()
        {
            return refuse(group, &error);
        }
        let mut outcomes = Vec::with_capacity(group.len());
        let mut unapplied = group.into_iter();
        let (meta, max_history) = (self.meta, self.max_history);
        let result =
            self.file.write(|transaction| apply(transaction, meta, max_history, &mut unapplied, &mut outcomes));
        match result {
            Ok(done) => {
                if let Some(done) = done {
                    self.metrics.commit.observe(begun.elapsed().as_secs_f64());
                    self.metrics.group.observe(done.events.len() as f64);
                    self.publish(done);
                }
                outcomes.into_iter().for_each(Outcome::tell);
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a commit failed");
                // what was refused may have been refused for the sake of what is now undone
                outcomes.into_iter().for_each(|outcome| outcome.fail(&error));
                refuse(unapplied.collect(), &error);
                if let Err(error) = self.recover() {
                    tracing::error!(error = &error as &dyn std::error::Error, "the store is not usable");
                }
            }
        }
    }

    fn publish(&mut self, done: Done) {
        let deletes = done.events.iter().filter(|event| matches!(event, Event::Delete { .. })).count() as u64;
        self.metrics.deletes.inc_by(deletes);
        self.metrics.puts.inc_by(done.events.len() as u64 - deletes);
        self.metrics.revision.set(done.meta.revision as i64);
        self.metrics.compacted.set(done.meta.compacted as i64);
        let moved = done.meta.revision > self.meta.revision;
        self.meta = done.meta;
        if moved {
            self.hub.publish(done.events, self.meta.revision);
        }
    }

    /// Opens the file again after a failed commit. Should that commit be in it after all, watchers are told.
    fn recover(&mut self) -> Result<(), Error> {
        self.file.reopen()?;
        let known = self.meta.revision;
        let (meta, events) = self.file.read(|tables| {
            let (events, _) = tables::history(&tables.log, "", known, tables.meta.revision, usize::MAX)?;
            Ok((tables.meta, events))
        })?;
        self.publish(Done { meta, events });
        Ok(())
    }
}

fn refuse(group: Vec<Request>, error: &Error) {
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

/// The tables, open for one group.
struct Group<'t> {
    log: Table<'t, u64, &'static [u8]>,
    index: Table<'t, &'static [u8], u64>,
    meta: Meta,
    events: Vec<Event>,
}

/// Applies `requests` and a step of sweeping. `None` if nothing changed, and there is nothing to commit.
fn apply(
    transaction: &WriteTransaction,
    before: Meta,
    max_history: u64,
    requests: &mut impl Iterator<Item = Request>,
    outcomes: &mut Vec<Outcome>,
) -> Checked<Option<Done>> {
    let table = |error: redb::TableError| Fault::Redb(error.into());
    let (log, index) = (transaction.open_table(LOG).map_err(table)?, transaction.open_table(INDEX).map_err(table)?);
    let mut group = Group { log, index, meta: before, events: Vec::new() };
    for request in requests {
        outcomes.push(match request {
            Request::Write { write, answer } => {
                let result = group.write(write)?;
                Outcome::Write(answer, result)
            }
            Request::Compact { revision, answer } => Outcome::Compact(answer, group.compact(revision)),
        });
    }
    group.meta.compacted = group.meta.compacted.max(group.meta.revision.saturating_sub(max_history));
    group.sweep()?;
    if group.meta == before {
        return Ok(None);
    }
    group.meta.save(&mut transaction.open_table(META).map_err(table)?)?;
    Ok(Some(Done { meta: group.meta, events: group.events }))
}

impl Group<'_> {
    /// The new entry, or what the key holds instead of what was expected.
    fn write(&mut self, write: Write) -> Checked<Result<Entry, Option<Entry>>> {
        let current = tables::get(&self.index, &self.log, write.key())?;
        let stands_at = |expect| current.as_ref().is_some_and(|current| current.mod_revision == expect);
        match write {
            Write::Create { key, value } if current.is_none() => {
                let create_revision = self.meta.revision + 1;
                self.put(Entry { key, create_revision, mod_revision: create_revision, value }, None).map(Ok)
            }
            Write::Update { key, expect, value } if stands_at(expect) => {
                let create_revision = current.as_ref().map_or(0, |current| current.create_revision);
                let entry = Entry { key, create_revision, mod_revision: self.meta.revision + 1, value };
                self.put(entry, current).map(Ok)
            }
            Write::Delete { expect, .. } if stands_at(expect) => match current {
                Some(current) => self.delete(current).map(Ok),
                None => Ok(Err(None)),
            },
            Write::Create { .. } | Write::Update { .. } | Write::Delete { .. } => Ok(Err(current)),
        }
    }

    fn put(&mut self, entry: Entry, prev: Option<Entry>) -> Checked<Entry> {
        let record = Record {
            deleted: false,
            create_revision: entry.create_revision,
            prev: prev.as_ref().map_or(0, |prev| prev.mod_revision),
            key: &entry.key,
            value: &entry.value,
        };
        self.append(&record)?;
        self.events.push(Event::Put { entry: entry.clone(), prev });
        Ok(entry)
    }

    fn delete(&mut self, current: Entry) -> Checked<Entry> {
        let record = Record {
            deleted: true,
            create_revision: current.create_revision,
            prev: current.mod_revision,
            key: &current.key,
            value: &[],
        };
        self.append(&record)?;
        let revision = self.meta.revision;
        self.events.push(Event::Delete { revision, prev: current.clone() });
        Ok(Entry { mod_revision: revision, ..current })
    }

    fn append(&mut self, record: &Record<'_>) -> Checked<()> {
        let revision = self.meta.revision + 1;
        self.log.insert(revision, record.encode().as_slice())?;
        let created = if record.deleted { 0 } else { record.create_revision };
        self.index.insert(index_row(record.key, revision).as_slice(), created)?;
        self.meta.revision = revision;
        Ok(())
    }

    fn compact(&mut self, revision: u64) -> Result<(), Error> {
        if revision > self.meta.revision {
            return Err(Error::Future { asked: revision, revision: self.meta.revision });
        }
        if revision <= self.meta.compacted {
            return Err(Error::Compacted { asked: revision, compacted: self.meta.compacted });
        }
        self.meta.compacted = revision;
        Ok(())
    }

    /// Removes what the next few compacted revisions superseded, and the deletions among them.
    fn sweep(&mut self) -> Checked<()> {
        let until = self.meta.compacted.min(self.meta.swept + SWEEP);
        if until <= self.meta.swept {
            return Ok(());
        }
        for (revision, row) in self.swept_by(until)? {
            self.log.remove(revision)?;
            self.index.remove(row.as_slice())?;
        }
        self.meta.swept = until;
        Ok(())
    }

    /// The revisions that go, with their rows of the index.
    fn swept_by(&self, until: u64) -> Checked<Vec<(u64, Vec<u8>)>> {
        let mut gone = Vec::new();
        for row in self.log.range(self.meta.swept + 1..=until)? {
            let (revision, value) = row?;
            let revision = revision.value();
            let damaged = || Fault::Corrupt(format!("the record of revision {revision} is damaged"));
            let record = Record::decode(value.value()).ok_or_else(damaged)?;
            if record.prev != 0 {
                gone.push((record.prev, index_row(record.key, record.prev)));
            }
            if record.deleted {
                gone.push((revision, index_row(record.key, revision)));
            }
        }
        Ok(gone)
    }
}
