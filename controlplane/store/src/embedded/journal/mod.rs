//! The journal: what was acknowledged and is not in the file yet. A write is durable once it is here.
//!
//! Few files, each filled from its start, then used again once its changes are in the store's file. Must not know: when
//! that happens.

mod batch;
mod segment;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::batch::Batch;
pub use self::segment::Segment;
use self::segment::Unreadable;
use super::recent::Change;
use super::tables::Meta;
use crate::Error;

/// A file that is being filled, one whose changes are on their way into the store's file, and one more after a restart.
const FILES: usize = 4;

/// What the journal holds when the store is opened.
pub struct Replay {
    /// In order, without a gap, from the first revision that the store's file lacks.
    pub changes: Vec<Arc<Change>>,
    pub compacted: u64,
    /// Where they are.
    pub segments: Vec<Segment>,
}

pub struct Journal {
    dir: PathBuf,
    /// The store's own number, which no other journal has, nor any client knows.
    store: u64,
    /// Bytes after which a file is full.
    size: u64,
    active: Option<Segment>,
    free: Vec<Segment>,
    buffer: Vec<u8>,
}

impl Journal {
    /// Reads what is in `dir`. `meta` is what the store's file says.
    ///
    /// # Errors
    /// What was acknowledged cannot be read, or is missing; the message names the file, which is left as it is.
    pub fn open(dir: &Path, size: u64, meta: Meta) -> Result<(Self, Replay), Error> {
        let (store, revision) = (meta.store, meta.revision);
        let mut read = Vec::new();
        for path in (0..FILES).map(|n| path(dir, n)) {
            match segment::read(&path, store, revision) {
                Ok(batches) => read.push((path, batches)),
                Err(Unreadable::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(Unreadable::Io(error)) => return Err(failed(&path, "reading", error)),
                Err(Unreadable::Damaged(why)) => return Err(damaged(&path, why)),
            }
        }
        // a file of a batch without changes goes before one of batches that begin where it stands
        read.sort_by_key(|(_, batches)| batches.first().map(|batch| (batch.first, batches.last().map(Batch::next))));
        let mut journal = Self { dir: dir.to_owned(), store, size, active: None, free: Vec::new(), buffer: Vec::new() };
        let mut replay = Replay { changes: Vec::new(), compacted: meta.compacted, segments: Vec::new() };
        for (path, batches) in read {
            let segment = Segment::make(&path, size).map_err(|error| failed(&path, "opening", error))?;
            match replay.take(batches, revision, &path)? {
                true => replay.segments.push(segment),
                false => journal.free.push(segment),
            }
        }
        Ok((journal, replay))
    }

    /// Makes changes durable: the first has revision `first`. What has been forgotten up to now goes with them.
    pub fn append(&mut self, first: u64, compacted: u64, changes: &[Arc<Change>]) -> Result<(), Appending> {
        batch::encode(&mut self.buffer, self.store, first, compacted, changes);
        let Some(active) = &mut self.active else { return Err(Appending::Full) };
        if !active.fits(self.buffer.len(), self.size) {
            return Err(Appending::Full);
        }
        active.append(&self.buffer).map_err(|error| Appending::Failed(failed(active.path(), "writing", error)))
    }

    /// Takes the full file out of use: no batch follows the last one in it.
    pub fn take_full(&mut self) -> Result<Option<Segment>, Error> {
        if let Some(active) = &mut self.active {
            active.seal().map_err(|error| failed(active.path(), "writing", error))?;
        }
        Ok(self.active.take())
    }

    /// Gives a file back whose changes are in the store's file.
    pub fn give_back(&mut self, segment: Segment) {
        let path = segment.path().to_owned();
        match segment.reuse() {
            Ok(segment) => self.free.push(segment),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a file of the journal is not used again"),
        }
    }

    /// Whether there is a file that is being filled.
    pub fn has_begun(&self) -> bool {
        self.active.is_some()
    }

    /// Begins the next file.
    pub fn begin(&mut self, in_use: &[Segment]) -> Result<(), Error> {
        if let Some(free) = self.free.pop() {
            self.active = Some(free);
            return Ok(());
        }
        let unused = (0..FILES).map(|n| path(&self.dir, n)).find(|path| in_use.iter().all(|used| used.path() != path));
        let path = unused.ok_or_else(|| damaged(&self.dir, "its journal has no file that is not in use".to_owned()))?;
        self.active = Some(Segment::make(&path, self.size).map_err(|error| failed(&path, "making", error))?);
        Ok(())
    }
}

/// Why a batch was not written.
pub enum Appending {
    /// There is no room for it in the file that is being filled.
    Full,
    Failed(Error),
}

impl Replay {
    /// Adds a file's batches; whether there was anything that the store's file lacks.
    fn take(&mut self, batches: Vec<Batch>, revision: u64, path: &Path) -> Result<bool, Error> {
        let mut news = false;
        for batch in batches {
            let next = self.changes.last().map_or(revision, |last| last.revision) + 1;
            news |= batch.next() > next || batch.compacted > self.compacted;
            self.compacted = self.compacted.max(batch.compacted);
            if batch.first > next {
                let why = format!("revisions {next} to {} are missing before it", batch.first - 1);
                return Err(damaged(path, why));
            }
            self.changes.extend(batch.changes.into_iter().filter(|change| change.revision >= next));
        }
        Ok(news)
    }
}

fn path(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("journal.{n}"))
}

fn damaged(path: &Path, why: String) -> Error {
    Error::Corrupt { what: format!("the store's journal {} is damaged or foreign", path.display()), why }
}

fn failed(path: &Path, doing: &str, error: std::io::Error) -> Error {
    Error::Backend { what: format!("{doing} the store's journal {}", path.display()), source: Arc::new(error) }
}
