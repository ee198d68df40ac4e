//! What the file holds: the log of every change by revision, an index from key to revisions, and three numbers.
//!
//! The index has a row for each (key, revision) still in the log, so a read at a past revision is a walk over one
//! key range. Must not know: transactions' life, writers, watchers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::recent::Change;
use crate::{Entry, Event, Page, Range};

/// revision → record, see [`Record`].
pub const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
/// key, zero byte, revision (big endian) → the revision the key was created at, 0 where it was deleted.
pub const INDEX: TableDefinition<'static, &[u8], u64> = TableDefinition::new("index");
/// [`FORMAT`], [`REVISION`], [`COMPACTED`], [`SWEPT`], [`STORE`].
pub const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// The layout's version, [`THIS_FORMAT`].
pub const FORMAT: &str = "format";
pub const THIS_FORMAT: u64 = 2;
/// Had no journal.
const FIRST_FORMAT: u64 = 1;
/// The newest write.
pub const REVISION: &str = "revision";
/// What was superseded up to here is forgotten …
pub const COMPACTED: &str = "compacted";
/// … and up to here it is removed, too.
pub const SWEPT: &str = "swept";
/// The number by which the journal is known to be this store's.
pub const STORE: &str = "store";

/// The numbers of [`META`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub revision: u64,
    pub compacted: u64,
    pub swept: u64,
    pub store: u64,
}

impl Meta {
    /// An empty store's: the first write gets revision 2, so no entry is ever at 0 or 1.
    pub fn empty() -> Self {
        Self { revision: 1, compacted: 0, swept: 0, store: Self::new_store() }
    }

    /// A number that nobody else has, and no client learns.
    fn new_store() -> u64 {
        use std::hash::{BuildHasher as _, Hasher as _};
        std::hash::RandomState::new().build_hasher().finish()
    }

    pub fn load(meta: &impl ReadableTable<&'static str, u64>) -> Checked<Self> {
        let number = |name| match meta.get(name)? {
            Some(value) => Ok(value.value()),
            None => Err(Fault::Corrupt(format!("the number {name:?} is missing"))),
        };
        let store = match number(FORMAT)? {
            THIS_FORMAT => number(STORE)?,
            FIRST_FORMAT => Self::new_store(),
            other => return Err(Fault::Corrupt(format!("its format is {other}, this program reads {THIS_FORMAT}"))),
        };
        Ok(Self { revision: number(REVISION)?, compacted: number(COMPACTED)?, swept: number(SWEPT)?, store })
    }

    /// Saves it, unless it is there as it is: then there is nothing to commit.
    pub fn save_into(self, transaction: &WriteTransaction) -> Checked<Option<()>> {
        let mut meta = transaction.open_table(META).map_err(|error| Fault::Redb(error.into()))?;
        let known = meta.get(FORMAT)?.map(|format| format.value());
        if known == Some(THIS_FORMAT) {
            return Ok(None);
        }
        self.save(&mut meta).map(Some)
    }

    pub fn save(self, meta: &mut Table<'_, &'static str, u64>) -> Checked<()> {
        let rows = [(FORMAT, THIS_FORMAT), (REVISION, self.revision), (COMPACTED, self.compacted), (SWEPT, self.swept)];
        for (name, value) in rows.into_iter().chain([(STORE, self.store)]) {
            meta.insert(name, value)?;
        }
        Ok(())
    }
}

/// A page is cut once its values exceed this, in bytes.
const PAGE_BYTES: usize = 8 << 20;
const PAGE_ENTRIES: usize = 10_000;

/// What can go wrong in here; the caller adds the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error("{0}")]
    Corrupt(String),
}

impl From<redb::StorageError> for Fault {
    fn from(error: redb::StorageError) -> Self {
        Self::Redb(error.into())
    }
}

pub type Checked<T> = Result<T, Fault>;

/// One change as it stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub deleted: bool,
    pub create_revision: u64,
    /// The revision this one superseded; 0 if the key did not exist.
    pub prev: u64,
    pub key: &'a str,
    pub value: &'a [u8],
}

const HEAD: usize = 1 + 8 + 8 + 4;

impl<'a> Record<'a> {
    /// Adds it to the end of `bytes`.
    pub fn encode_to(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(HEAD + self.key.len() + self.value.len());
        bytes.push(u8::from(self.deleted));
        bytes.extend_from_slice(&self.create_revision.to_le_bytes());
        bytes.extend_from_slice(&self.prev.to_le_bytes());
        // etcd has no limit of its own for keys either; a request's limit is far below 4 GiB
        bytes.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(self.value);
    }

    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (deleted, rest) = bytes.split_first()?;
        let (create, rest) = rest.split_first_chunk::<8>()?;
        let (prev, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        Some(Self {
            deleted: *deleted != 0,
            create_revision: u64::from_le_bytes(*create),
            prev: u64::from_le_bytes(*prev),
            key: std::str::from_utf8(key).ok()?,
            value,
        })
    }

    pub fn entry(&self, revision: u64) -> Entry {
        Entry {
            key: Arc::from(self.key),
            create_revision: self.create_revision,
            mod_revision: revision,
            value: Bytes::copy_from_slice(self.value),
        }
    }
}

/// Hands the record at `revision` to `read`; an absent or unreadable one is corruption.
pub fn record<T>(
    log: &impl ReadableTable<u64, &'static [u8]>,
    revision: u64,
    read: impl FnOnce(&Record<'_>) -> T,
) -> Checked<T> {
    let guard = log.get(revision)?.ok_or_else(|| Fault::Corrupt(format!("revision {revision} is not in the log")))?;
    Ok(read(&decoded(guard.value(), revision)?))
}

fn decoded(bytes: &[u8], revision: u64) -> Checked<Record<'_>> {
    Record::decode(bytes).ok_or_else(|| Fault::Corrupt(format!("the record of revision {revision} is damaged")))
}

/// The index's row for `key` at `revision`.
pub fn index_row(key: &str, revision: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 9);
    row.extend_from_slice(key.as_bytes());
    row.push(0);
    row.extend_from_slice(&revision.to_be_bytes());
    row
}

fn split_row(row: &[u8]) -> Checked<(&[u8], u64)> {
    let split = row.split_last_chunk::<8>().and_then(|(key, revision)| Some((key.split_last()?.1, revision)));
    let (key, revision) = split.ok_or_else(|| Fault::Corrupt("a row of the index is damaged".to_owned()))?;
    Ok((key, u64::from_be_bytes(*revision)))
}

/// The newest entry of `key`, if it exists.
pub fn get(
    index: &impl ReadableTable<&'static [u8], u64>,
    log: &impl ReadableTable<u64, &'static [u8]>,
    key: &str,
) -> Checked<Option<Entry>> {
    let (first, last) = (index_row(key, 0), index_row(key, u64::MAX));
    let Some(row) = index.range(first.as_slice()..=last.as_slice())?.next_back().transpose()? else {
        return Ok(None);
    };
    if row.1.value() == 0 {
        return Ok(None);
    }
    let (_, revision) = split_row(row.0.value())?;
    record(log, revision, |record| Some(record.entry(revision)))
}

/// A page as of `revision`, `recent` being what changed later than these tables know, if not later than `revision`. The
/// caller has checked that `revision` is neither compacted nor in the future.
pub fn page(
    index: &impl ReadableTable<&'static [u8], u64>,
    log: &impl ReadableTable<u64, &'static [u8]>,
    range: Range<'_>,
    revision: u64,
    recent: BTreeMap<Arc<str>, Arc<Change>>,
) -> Checked<Page> {
    let mut filling = Filling::new(range, revision);
    let mut recent = recent.into_values().peekable();
    let mut wanted = true;
    walk(index, range, revision, |key, at| {
        // what changed lately stands between what did not, or in its place
        while wanted && let Some(change) = recent.next_if(|change| change.key.as_bytes() < key) {
            wanted = filling.add_change(&change)?;
        }
        if wanted && recent.peek().is_none_or(|change| change.key.as_bytes() != key) {
            wanted = filling.add(|| record(log, at, |record| record.entry(at)))?;
        }
        Ok(wanted)
    })?;
    while wanted && let Some(change) = recent.next() {
        wanted = filling.add_change(&change)?;
    }
    Ok(filling.page())
}

/// A page as it fills.
struct Filling {
    page: Page,
    limit: usize,
    bytes: usize,
    count: bool,
    /// Entries that came after it was full.
    beyond: u64,
}

impl Filling {
    fn new(range: Range<'_>, revision: u64) -> Self {
        let limit = if range.limit == 0 { PAGE_ENTRIES } else { range.limit.min(PAGE_ENTRIES) };
        let page = Page { revision, entries: Vec::new(), more: false, remaining: None };
        Self { page, limit, bytes: 0, count: range.count, beyond: 0 }
    }

    /// Adds an entry, or counts it; false once there is nothing more to learn.
    fn add(&mut self, read: impl FnOnce() -> Checked<Entry>) -> Checked<bool> {
        if self.page.entries.len() >= self.limit || self.bytes >= PAGE_BYTES {
            self.beyond += 1;
            return Ok(self.count);
        }
        let entry = read()?;
        self.bytes += entry.value.len() + entry.key.len();
        self.page.entries.push(entry);
        Ok(true)
    }

    fn add_change(&mut self, change: &Change) -> Checked<bool> {
        change.entry().map_or(Ok(true), |entry| self.add(|| Ok(entry)))
    }

    fn page(self) -> Page {
        Page { more: self.beyond > 0, remaining: self.count.then_some(self.beyond), ..self.page }
    }
}

/// Hands `visit` each key of `range` with its revision that exists at `revision`, until it answers false.
fn walk(
    index: &impl ReadableTable<&'static [u8], u64>,
    range: Range<'_>,
    revision: u64,
    mut visit: impl FnMut(&[u8], u64) -> Checked<bool>,
) -> Checked<()> {
    let mut start = range.prefix.as_bytes().to_vec();
    if let Some(after) = range.start_after.filter(|after| after.as_bytes() >= start.as_slice()) {
        start = index_row(after, u64::MAX);
    }
    // the key being walked, and its newest revision up to `revision` (0: deleted)
    let (mut key, mut newest) = (Vec::new(), 0);
    for row in index.range(start.as_slice()..)? {
        let (row, created) = row?;
        let (this, at) = split_row(row.value())?;
        if !this.starts_with(range.prefix.as_bytes()) {
            break;
        }
        if this != key.as_slice() {
            if newest != 0 && !visit(&key, newest)? {
                return Ok(());
            }
            key.clear();
            key.extend_from_slice(this);
            newest = 0;
        }
        if at <= revision {
            newest = if created.value() == 0 { 0 } else { at };
        }
    }
    if newest != 0 {
        visit(&key, newest)?;
    }
    Ok(())
}

/// The events of revisions `after + 1 ..= until` whose keys start with `prefix`, from at most `max` log records;
/// and the revision up to which that is complete.
pub fn history(
    log: &impl ReadableTable<u64, &'static [u8]>,
    prefix: &str,
    after: u64,
    until: u64,
    max: usize,
) -> Checked<(Vec<Event>, u64)> {
    let (mut events, mut seen, mut bytes) = (Vec::new(), 0, 0);
    for row in log.range(after + 1..=until)? {
        let (revision, value) = row?;
        let (revision, found) = (revision.value(), decoded(value.value(), revision.value())?);
        if found.key.starts_with(prefix) {
            bytes += found.value.len();
            events.push(event(log, &found, revision)?);
        }
        seen += 1;
        if seen >= max || bytes >= PAGE_BYTES {
            return Ok((events, revision));
        }
    }
    Ok((events, until))
}

fn event(log: &impl ReadableTable<u64, &'static [u8]>, found: &Record<'_>, revision: u64) -> Checked<Event> {
    let prev = match found.prev {
        0 => None,
        at => Some(record(log, at, |record| record.entry(at))?),
    };
    match (found.deleted, prev) {
        (false, prev) => Ok(Event::Put { entry: found.entry(revision), prev }),
        (true, Some(prev)) => Ok(Event::Delete { revision, prev }),
        (true, None) => Err(Fault::Corrupt(format!("revision {revision} deletes nothing"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_both_ways_and_no_damaged_one_is_read() {
        let record = Record { deleted: false, create_revision: 7, prev: 9, key: "/a/b", value: b"{}" };
        let mut bytes = Vec::new();
        record.encode_to(&mut bytes);
        assert_eq!(Record::decode(&bytes), Some(record));
        for cut in 0..HEAD + record.key.len() {
            assert_eq!(Record::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn rows_sort_by_key_then_revision() {
        let mut rows = [index_row("/a/b", 300), index_row("/a", 2), index_row("/a/b", 2), index_row("/a-b", 1)];
        rows.sort();
        assert_eq!(rows, [index_row("/a", 2), index_row("/a-b", 1), index_row("/a/b", 2), index_row("/a/b", 300)]);
    }
}
