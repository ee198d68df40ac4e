//! What a reader sees: the newest changes over the tables of the file, as of one moment.
//!
//! Must not know: who asks, and how either came to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;

use super::file::Tables;
use super::recent::{Change, Recent};
use super::tables::{self, Checked, Fault};
use crate::{Entry, Error, Event, Page, Range};

/// The tables hold everything that `recent` does not. The guard is given up as soon as what is needed is copied, for the
/// writer waits for it.
pub struct View<'a> {
    pub tables: &'a Tables,
    pub recent: RwLockReadGuard<'a, Recent>,
}

impl View<'_> {
    pub fn get(&self, key: &str) -> Checked<Option<Entry>> {
        match self.recent.newest(key) {
            Some(change) => Ok(change.entry()),
            None => tables::get(&self.tables.index, &self.tables.log, key),
        }
    }

    /// A page as of the revision that `range` asks for.
    pub fn page(self, range: Range<'_>) -> Checked<Result<Page, Error>> {
        let (newest, compacted) = (self.recent.revision, self.recent.compacted);
        let revision = range.revision.unwrap_or(newest);
        if revision < compacted {
            return Ok(Err(Error::Compacted { asked: revision, compacted }));
        }
        if revision > newest {
            return Ok(Err(Error::Future { asked: revision, revision: newest }));
        }
        let recent = self.recent.within(range, revision);
        drop(self.recent);
        tables::page(&self.tables.index, &self.tables.log, range, revision, recent).map(Ok)
    }

    /// The events of revisions `after + 1 ..= until` whose keys start with `prefix`, or the first of them; and the
    /// revision up to which that is complete. At most `max` changes are looked at.
    pub fn history(
        self,
        prefix: &str,
        after: u64,
        until: u64,
        max: usize,
    ) -> Checked<Result<(Vec<Event>, u64), Error>> {
        let compacted = self.recent.compacted;
        if after < compacted {
            return Ok(Err(Error::Compacted { asked: after, compacted }));
        }
        let boundary = self.recent.first() - 1;
        if after < boundary {
            drop(self.recent);
            return tables::history(&self.tables.log, prefix, after, until.min(boundary), max).map(Ok);
        }
        let until = until.min(after.saturating_add(max as u64));
        let changes: Vec<_> =
            self.recent.between(after, until).filter(|change| change.key.starts_with(prefix)).cloned().collect();
        let known = |change: &Arc<Change>| Some((change.prev, self.recent.at(change.prev)?.clone()));
        let before: BTreeMap<u64, Arc<Change>> = changes.iter().filter_map(known).collect();
        drop(self.recent);
        let events = changes.iter().map(|change| event(self.tables, &before, change));
        Ok(Ok((events.collect::<Checked<_>>()?, until)))
    }
}

fn event(tables: &Tables, before: &BTreeMap<u64, Arc<Change>>, change: &Change) -> Checked<Event> {
    let prev = match (change.prev, before.get(&change.prev)) {
        (0, _) => None,
        (_, Some(prev)) => prev.entry(),
        (at, None) => Some(tables::record(&tables.log, at, |record| record.entry(at))?),
    };
    let revision = change.revision;
    match (change.entry(), prev) {
        (Some(entry), prev) => Ok(Event::Put { entry, prev }),
        (None, Some(prev)) => Ok(Event::Delete { revision, prev }),
        (None, None) => Err(Fault::Corrupt(format!("revision {revision} deletes nothing"))),
    }
}
