//! The last changes of one resource, for watchers to read from and for going back to a past revision.
//!
//! Must not know: who reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ordered::Ordered;
use super::{Change, ChangeKind};

/// Changes kept at most: upstream's upper bound for its watch cache.
const MAX_CHANGES: usize = 100_000;
/// Bytes of objects kept alive by nothing but the window.
const MAX_SUPERSEDED: usize = 8 << 20;
/// Changes kept at least, whatever they hold: a watcher that is no further behind is never closed.
const MIN_CHANGES: usize = 1_000;
/// Changes beyond the least are dropped when this old. etcd's history under upstream is as long.
const MAX_AGE: Duration = Duration::from_secs(300);

pub struct Window {
    changes: VecDeque<(Change, Instant)>,
    /// The number of the first change in `changes`, counted since the cache was filled.
    first: u64,
    /// Every change after this revision is here.
    start: u64,
    superseded: usize,
}

fn superseded_by(change: &Change) -> usize {
    let deleted = (change.kind == ChangeKind::Deleted).then_some(&change.object);
    change.prev.iter().chain(deleted).map(|object| object.json.len()).sum()
}

impl Window {
    pub fn new(start: u64) -> Self {
        Self { changes: VecDeque::new(), first: 0, start, superseded: 0 }
    }

    /// Forgets everything; every watcher is too late now.
    pub fn restart(&mut self, start: u64) {
        *self = Self { first: self.end() + 1, ..Self::new(start) };
    }

    pub fn push(&mut self, change: Change, now: Instant) {
        self.superseded += superseded_by(&change);
        self.changes.push_back((change, now));
        while self.overfull(now)
            && let Some((gone, _)) = self.changes.pop_front()
        {
            self.superseded -= superseded_by(&gone);
            self.start = gone.object.revision;
            self.first += 1;
        }
    }

    fn overfull(&self, now: Instant) -> bool {
        let old = |(_, at): &(Change, Instant)| now.duration_since(*at) > MAX_AGE;
        let beyond = self.superseded > MAX_SUPERSEDED || self.changes.front().is_some_and(old);
        self.changes.len() > MAX_CHANGES || (beyond && self.changes.len() > MIN_CHANGES)
    }

    /// The number the next change will have.
    pub fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// Every change after this revision is here.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The number of the first change after `revision`; `None` if it may be gone.
    pub fn after(&self, revision: u64) -> Option<u64> {
        let at = self.changes.partition_point(|(change, _)| change.object.revision <= revision);
        (revision >= self.start).then_some(self.first + at as u64)
    }

    /// The changes from number `from` on; `None` if some of them are gone.
    pub fn from(&self, from: u64) -> Option<impl Iterator<Item = &Change>> {
        let skip = from.checked_sub(self.first)?;
        Some(self.changes.range((skip as usize).min(self.changes.len())..).map(|(change, _)| change))
    }

    /// `now`, the state after the last change, as it was at `revision`; `None` if that is too long ago.
    pub fn back_to(&self, revision: u64, mut now: Ordered) -> Option<Ordered> {
        if revision < self.start {
            return None;
        }
        let undone = self.changes.iter().rev().take_while(|(change, _)| change.object.revision > revision);
        for (change, _) in undone {
            match (&change.prev, change.kind) {
                (Some(prev), _) => now.insert(Arc::clone(prev)),
                (None, ChangeKind::Bookmark { .. }) => None,
                (None, _) => now.remove(&change.object.key),
            };
        }
        Some(now)
    }
}
