//! What a store promises: entries, writes, pages, events, and how each can fail.
//!
//! Must not know: where the bytes are kept.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Watch;

/// The largest value a store takes, in bytes: etcd's default `--max-request-bytes`.
pub const MAX_VALUE: usize = 3 * 512 * 1024;

/// A store has one revision, a number that grows by one with every write of any key, and starts at 1 when empty.
/// Every method may be called from any number of tasks at once.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest value of `key`.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// A page of entries in key order, all as of one revision.
    async fn range(&self, range: Range<'_>) -> Result<Page, Error>;

    /// Changes one key. Answers once the change is durable and every watcher has been handed it.
    ///
    /// A deletion answers with the entry that was, its `mod_revision` being the deletion's. When the answer is
    /// `WriteError::Store`, the change may have happened all the same; a watcher sees it then.
    async fn write(&self, write: Write) -> Result<Entry, WriteError>;

    /// Every event after revision `after` of the keys that start with `prefix`, in revision order.
    async fn watch(&self, prefix: &str, after: u64) -> Result<Watch, Error>;

    /// Forgets what was superseded at `revision` or before. Reads at older revisions fail from now on; the space
    /// comes back over the next commits.
    async fn compact(&self, revision: u64) -> Result<(), Error>;

    /// The revision of the newest write.
    async fn revision(&self) -> Result<u64, Error>;
}

/// One key at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    /// When the key came to be (again, after its last deletion).
    pub create_revision: u64,
    /// When this value was written.
    pub mod_revision: u64,
    pub value: Bytes,
}

/// A change of one key, made only if the key is as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The key must not exist.
    Create { key: Arc<str>, value: Bytes },
    /// The key must stand at `mod_revision` `expect`.
    Update { key: Arc<str>, expect: u64, value: Bytes },
    /// The key must stand at `mod_revision` `expect`.
    Delete { key: Arc<str>, expect: u64 },
}

impl Write {
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The new value; none for a deletion.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Create { value, .. } | Self::Update { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }
}

/// Which entries to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range<'a> {
    pub prefix: &'a str,
    /// Only keys after this one.
    pub start_after: Option<&'a str>,
    /// At most so many entries; 0 leaves it to the store, which cuts every page at a few MiB in any case.
    pub limit: usize,
    /// As of this revision; `None` means the newest.
    pub revision: Option<u64>,
    /// Count what comes after the page. It costs a walk over the remaining keys.
    pub count: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision the page shows.
    pub revision: u64,
    pub entries: Vec<Entry>,
    /// There are entries after the last one.
    pub more: bool,
    /// How many, where the range asked to count.
    pub remaining: Option<u64>,
}

/// One change, as watchers see it. `prev` is what the key held before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Put { entry: Entry, prev: Option<Entry> },
    Delete { revision: u64, prev: Entry },
}

impl Event {
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { prev, .. } => &prev.key,
        }
    }
}

/// Why a store could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("revision {asked} has been compacted, the history starts after {compacted}")]
    Compacted { asked: u64, compacted: u64 },
    #[error("revision {asked} has not happened yet, the store is at {revision}")]
    Future { asked: u64, revision: u64 },
    #[error("a value of {0} bytes is larger than the limit of {MAX_VALUE} bytes")]
    TooLarge(usize),
    #[error("the key {0:?} is empty or contains a zero byte")]
    InvalidKey(String),
    /// The backend failed; the message names it.
    #[error("{what}")]
    Backend { what: String, source: Arc<dyn std::error::Error + Send + Sync> },
    #[error("{what}: {why}")]
    Corrupt { what: String, why: String },
    #[error("the store is closed")]
    Closed,
}

/// Why a write was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The key was not as expected: this is what it holds, `None` if it does not exist.
    #[error("the key is not as expected")]
    Conflict(Option<Entry>),
    #[error(transparent)]
    Store(#[from] Error),
}
