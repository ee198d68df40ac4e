//! One file of the journal: allocated ahead, written a batch at a time, read once when the store is opened.
//!
//! Must not know: when it is full, and what follows it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

use super::batch::{self, BLOCK, Batch, Found};

pub struct Segment {
    path: PathBuf,
    file: fs::File,
    /// Where the next batch goes.
    end: u64,
    /// A batch that was given up may stand at `end`.
    unsure: bool,
}

impl Segment {
    /// Makes the file, or takes one over whose content is not needed any more.
    pub fn make(path: &Path, size: u64) -> io::Result<Self> {
        let known = path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if !known {
            // without room for all of it now, it grows as it is written
            let _ = fallocate(&file, FallocateFlags::empty(), 0, size.cast_signed());
            file.sync_all()?;
            path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())?;
        }
        Ok(Self { path: path.to_owned(), file, end: 0, unsure: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether so many bytes more keep it within `size`.
    pub fn fits(&self, bytes: usize, size: u64) -> bool {
        self.end == 0 || self.end + bytes as u64 <= size
    }

    /// Writes a batch; once it answers, the batch is durable. After an error the batch may be there or not, and the next
    /// one takes its place.
    pub fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        self.unsure = true;
        self.file.write_all_at(batch, self.end)?;
        self.file.sync_data()?;
        self.unsure = false;
        self.end += batch.len() as u64;
        Ok(())
    }

    /// Makes sure that nothing follows the last batch that was acknowledged.
    pub fn seal(&mut self) -> io::Result<()> {
        if self.unsure {
            self.file.write_all_at(&[0; BLOCK], self.end)?;
            self.file.sync_data()?;
            self.unsure = false;
        }
        Ok(())
    }

    /// It may be written from its start again. What it held must be elsewhere.
    pub fn reuse(mut self) -> io::Result<Self> {
        self.seal()?;
        self.end = 0;
        Ok(self)
    }
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// The batches of a file in their order, up to the one that was not finished. Batches of an earlier use of the file, all
/// of them older than `revision`, may follow and are none of this journal any more.
pub fn read(path: &Path, store: u64, revision: u64) -> Result<Vec<Batch>, Unreadable> {
    let bytes = fs::read(path)?;
    let head = bytes.get(..BLOCK).unwrap_or(&bytes);
    if matches!(batch::decode(&bytes, store), Found::Foreign) {
        return Err(Unreadable::Damaged("it is the journal of another store".to_owned()));
    }
    let mut batches: Vec<Batch> = Vec::new();
    let mut at = 0;
    while let Found::Batch(batch) = batch::decode(&bytes[at.min(bytes.len())..], store) {
        if batches.last().is_some_and(|last| last.next() != batch.first) {
            break;
        }
        at += batch.size;
        batches.push(batch);
    }
    let known = batches.last().map_or(revision + 1, Batch::next).max(revision + 1);
    for at in (at..bytes.len()).step_by(BLOCK) {
        if let Found::Batch(batch) = batch::decode(&bytes[at..], store)
            && batch.next() > known
        {
            let why = format!("revision {known} is damaged, revision {} after it is whole", batch.next() - 1);
            return Err(Unreadable::Damaged(why));
        }
    }
    if batches.is_empty() && head.iter().any(|byte| *byte != 0) && !batch::may_begin(head) {
        return Err(Unreadable::Damaged("this is not a journal".to_owned()));
    }
    Ok(batches)
}
