//! A watcher: a place in the cache's window of changes, read at the watcher's own pace.
//!
//! Nothing is queued per watcher, and nothing is done for one when a change is published but to wake it. One that
//! falls out of the window is closed. Must not know: forms, selectors.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::ordered::Ordered;
use super::{Cache, Change, ChangeKind, Stored};

/// Changes taken from the window, or objects from the snapshot, at a time.
const TAKE: usize = 128;
/// Changes looked at while the window is locked.
const LOOK: usize = 2048;

pub struct Watcher {
    cache: Arc<Cache>,
    /// What the wanted keys start with.
    prefix: Box<str>,
    /// The objects to begin with: the rest of them, the key after which it starts, the revision, and whether a
    /// bookmark says when they are through.
    initial: Option<Initial>,
    /// The number of the next change to take from the window.
    cursor: u64,
    /// How far behind the watcher may be.
    queue: usize,
    taken: VecDeque<Change>,
    revision: u64,
    closed: bool,
}

pub(super) struct Initial {
    pub objects: Ordered,
    pub after: Option<Arc<str>>,
    pub revision: u64,
    pub bookmark: bool,
}

impl Watcher {
    pub(super) fn new(
        cache: Arc<Cache>,
        prefix: Box<str>,
        initial: Option<Initial>,
        cursor: u64,
        revision: u64,
        queue: usize,
    ) -> Self {
        Self { cache, prefix, initial, cursor, queue, taken: VecDeque::new(), revision, closed: false }
    }

    /// Everything up to this revision has been handed out: what a bookmark may say.
    pub fn revision(&self) -> u64 {
        if self.taken.is_empty() && self.initial.is_none() && !self.closed {
            self.cache.idle_at(self.cursor).unwrap_or(self.revision)
        } else {
            self.revision
        }
    }

    /// The next change; `None` once the watcher was too slow, or the cache is gone or was filled anew.
    pub async fn next(&mut self) -> Option<Change> {
        if let Some(change) = self.try_next() {
            return Some(change);
        }
        let cache = self.cache.clone();
        loop {
            let mut published = std::pin::pin!(cache.published());
            // from here on no wake-up is lost, so looking and then waiting is enough
            published.as_mut().enable();
            if let Some(change) = self.try_next() {
                return Some(change);
            }
            if self.closed {
                return None;
            }
            published.await;
        }
    }

    /// The next change, if it is already there.
    pub fn try_next(&mut self) -> Option<Change> {
        if self.taken.is_empty() && !self.closed {
            self.take();
        }
        let change = self.taken.pop_front()?;
        if self.initial.is_none() {
            self.revision = self.revision.max(change.object.revision);
        }
        Some(change)
    }

    fn take(&mut self) {
        if self.initial.is_some() {
            self.take_initial();
        }
        while self.initial.is_none() && self.taken.is_empty() && self.take_changes() {}
    }

    fn take_initial(&mut self) {
        let Some(initial) = &mut self.initial else { return };
        let added = |object: &Arc<Stored>| Change { kind: ChangeKind::Added, object: object.clone(), prev: None };
        self.taken.extend(initial.objects.iter(&self.prefix, initial.after.as_deref()).take(TAKE).map(added));
        match self.taken.back() {
            Some(last) if self.taken.len() == TAKE => initial.after = Some(last.object.key.clone()),
            _ => {
                if initial.bookmark {
                    self.taken.push_back(bookmark(initial.revision));
                }
                self.initial = None;
            }
        }
    }

    /// True if there is more to look at.
    fn take_changes(&mut self) -> bool {
        let state = self.cache.state.read();
        let end = state.window.end();
        let Some(changes) = state.window.from(self.cursor).filter(|_| end <= self.cursor + self.queue as u64) else {
            self.closed = true;
            return false;
        };
        for change in changes.take(LOOK) {
            self.cursor += 1;
            if change.object.key.starts_with(&*self.prefix) {
                self.taken.push_back(change.clone());
                if self.taken.len() == TAKE {
                    break;
                }
            }
        }
        self.cursor < end
    }
}

/// An object that is nothing but a revision.
fn bookmark(revision: u64) -> Change {
    let json = Bytes::from_static(b"{\"metadata\":{}}");
    let object = Arc::new(Stored::new("".into(), revision, &json, None));
    Change { kind: ChangeKind::Bookmark { initial: true }, object, prev: None }
}
