//! Brings layers of changes into the store's file, and removes from it what is forgotten, beside the writer.
//!
//! Must not know: the journal.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::RwLock;
use redb::{ReadableTable as _, Table, WriteTransaction};

use super::file::File;
use super::metrics::StoreMetrics;
use super::recent::{Layer, Recent};
use super::tables::{Checked, Fault, INDEX, LOG, META, Meta, Record, index_row};
use crate::Error;

/// Log records that one commit sweeps at least, while there are any: a bound on how long a layer waits.
const SWEEP: u64 = 4096;

enum Work {
    Flush(Arc<Layer>),
    /// There is more to forget.
    Sweep,
}

/// The thread's handle. Dropping it waits until the work in hand is done.
pub struct Checkpointer {
    work: Option<Sender<Work>>,
    flushed: Receiver<Result<(), Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub fn start(
        file: Arc<File>,
        recent: Arc<RwLock<Recent>>,
        metrics: StoreMetrics,
        meta: Meta,
    ) -> std::io::Result<Self> {
        let (work, todo) = channel();
        let (done, flushed) = channel();
        let checkpoint = Checkpoint { file, recent, metrics, meta };
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned());
        let thread = thread.spawn(move || checkpoint.run(&todo, &done))?;
        Ok(Self { work: Some(work), flushed, thread: Some(thread) })
    }

    /// Begins to bring a layer into the file. At most one is on its way.
    pub fn flush(&self, layer: Arc<Layer>) {
        self.send(Work::Flush(layer));
    }

    /// Waits for the layer that is on its way.
    pub fn wait(&self) -> Result<(), Error> {
        self.flushed.recv().unwrap_or(Err(Error::Closed))
    }

    pub fn sweep(&self) {
        self.send(Work::Sweep);
    }

    /// A thread that is gone tells so when it is waited for.
    fn send(&self, work: Work) {
        let _ = self.work.as_ref().map(|to| to.send(work));
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.work = None;
        // the file's own panics are caught where they happen; there is nothing to do about another here
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Checkpoint {
    file: Arc<File>,
    recent: Arc<RwLock<Recent>>,
    metrics: StoreMetrics,
    /// As committed.
    meta: Meta,
}

impl Checkpoint {
    fn run(mut self, todo: &Receiver<Work>, done: &Sender<Result<(), Error>>) {
        loop {
            let work = match self.sweeps() {
                true => todo.try_recv(),
                false => todo.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match work {
                Ok(Work::Flush(layer)) => {
                    let flushed = self.commit(Some(&layer));
                    if flushed.is_ok() {
                        self.recent.write().drop_older();
                    }
                    if done.send(flushed).is_err() {
                        return;
                    }
                }
                Ok(Work::Sweep) | Err(TryRecvError::Empty) => {
                    if let Err(error) = self.commit(None) {
                        tracing::error!(error = &error as &dyn std::error::Error, "forgotten history stays for now");
                        // the next layer tries again
                        self.meta.compacted = self.meta.swept;
                    }
                }
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Whether there is something to remove.
    fn sweeps(&self) -> bool {
        self.meta.swept < self.meta.compacted.min(self.meta.revision)
    }

    fn commit(&mut self, layer: Option<&Layer>) -> Result<(), Error> {
        let begun = Instant::now();
        let before = Meta { compacted: self.recent.read().compacted, ..self.meta };
        let committed = self.file.write(|transaction| apply(transaction, before, layer));
        match committed {
            Ok(Some(meta)) => {
                self.meta = meta;
                self.metrics.commit.observe(begun.elapsed().as_secs_f64());
                self.metrics.size.set(self.file.len().cast_signed());
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a checkpoint failed");
                // it may be in the file all the same; doing it once more changes nothing
                self.file.reopen()?;
                self.meta = self.file.read(|| (), |tables, ()| Ok(tables.meta))?;
                Err(error)
            }
        }
    }
}

/// Puts the layer into the tables and sweeps a part. `None` if there is nothing to do.
fn apply(transaction: &WriteTransaction, before: Meta, layer: Option<&Layer>) -> Checked<Option<Meta>> {
    let table = |error: redb::TableError| Fault::Redb(error.into());
    let mut log = transaction.open_table(LOG).map_err(table)?;
    let mut index = transaction.open_table(INDEX).map_err(table)?;
    let mut meta = before;
    let changes = layer.map_or(&[][..], Layer::changes);
    let mut bytes = Vec::new();
    for change in changes {
        bytes.clear();
        change.record().encode_to(&mut bytes);
        log.insert(change.revision, bytes.as_slice())?;
        let created = if change.deleted { 0 } else { change.create_revision };
        index.insert(index_row(&change.key, change.revision).as_slice(), created)?;
        meta.revision = meta.revision.max(change.revision);
    }
    sweep(&mut log, &mut index, &mut meta, SWEEP.max(2 * changes.len() as u64))?;
    if meta == before && changes.is_empty() {
        return Ok(None);
    }
    meta.save(&mut transaction.open_table(META).map_err(table)?)?;
    Ok(Some(meta))
}

/// Removes what the next compacted revisions superseded, and the deletions among them.
fn sweep(
    log: &mut Table<'_, u64, &'static [u8]>,
    index: &mut Table<'_, &'static [u8], u64>,
    meta: &mut Meta,
    most: u64,
) -> Checked<()> {
    let until = meta.compacted.min(meta.revision).min(meta.swept + most);
    if until <= meta.swept {
        return Ok(());
    }
    for (revision, row) in swept_by(log, meta.swept, until)? {
        log.remove(revision)?;
        index.remove(row.as_slice())?;
    }
    meta.swept = until;
    Ok(())
}

/// The revisions that go, with their rows of the index.
fn swept_by(log: &Table<'_, u64, &'static [u8]>, after: u64, until: u64) -> Checked<Vec<(u64, Vec<u8>)>> {
    let mut gone = Vec::new();
    for row in log.range(after + 1..=until)? {
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
