//! A subscriber's queue: per object, what the subscriber saw last and what is true now, and of what came and went unseen
//! the last. That is all it ever holds, so any number of events of one object take one place.
//!
//! Must not know: where changes come from.

use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::{Change, ObjectKey};

pub(super) struct Queue<K> {
    pending: Mutex<Pending<K>>,
    changed: Notify,
}

struct Pending<K> {
    objects: IndexMap<ObjectKey, Difference<K>>,
    closed: bool,
}

struct Difference<K> {
    /// What the subscriber saw last; None: nothing.
    seen: Option<Arc<K>>,
    /// What came and went before anything was seen: who counts what goes is to hear of it.
    passed: Option<Arc<K>>,
    /// What is there now; None: nothing.
    now: Option<Arc<K>>,
}

impl<K: kube::Resource> Difference<K> {
    fn follow(&mut self, new: Option<Arc<K>>) {
        let was = std::mem::replace(&mut self.now, new);
        let stays = |was: &Arc<K>| self.now.as_ref().is_some_and(|now| now.meta().uid == was.meta().uid);
        if let Some(was) = was.filter(|was| self.seen.is_none() && !stays(was)) {
            self.passed = Some(was);
        }
    }
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { pending: Mutex::new(Pending { objects: IndexMap::new(), closed: false }), changed: Notify::new() }
    }
}

impl<K: kube::Resource> Queue<K> {
    pub(super) fn push(&self, key: ObjectKey, old: Option<Arc<K>>, new: Option<Arc<K>>) {
        let mut pending = self.pending.lock();
        match pending.objects.get_mut(&key) {
            Some(difference) => difference.follow(new),
            None => {
                pending.objects.insert(key, Difference { seen: old, passed: None, now: new });
            }
        }
        drop(pending);
        self.changed.notify_one();
    }
}

impl<K> Queue<K> {
    pub(super) fn close(&self) {
        self.pending.lock().closed = true;
        self.changed.notify_one();
    }
}

/// One reader's view of a reflector. Ends when the watch does.
pub struct Subscription<K> {
    queue: Arc<Queue<K>>,
    /// Keeps the watch going for as long as somebody reads it.
    _running: Arc<DropGuard>,
}

impl<K> Subscription<K> {
    pub(super) fn new(queue: Arc<Queue<K>>, running: Arc<DropGuard>) -> Self {
        Self { queue, _running: running }
    }
}

impl<K: kube::Resource> Subscription<K> {
    /// Everything that changed since the last call, waiting for at least one change. None once the watch has ended and
    /// all is delivered. Safe to drop while waiting: nothing is lost.
    pub async fn next(&mut self) -> Option<Vec<Change<K>>> {
        loop {
            let (changes, closed) = self.take();
            if !changes.is_empty() {
                return Some(changes);
            }
            if closed {
                return None;
            }
            self.queue.changed.notified().await;
        }
    }

    fn take(&self) -> (Vec<Change<K>>, bool) {
        let (objects, closed) = {
            let mut pending = self.queue.pending.lock();
            (std::mem::take(&mut pending.objects), pending.closed)
        };
        (objects.into_values().flat_map(changes).collect(), closed)
    }
}

fn changes<K: kube::Resource>(difference: Difference<K>) -> Vec<Change<K>> {
    match (difference.seen, difference.now) {
        (None, now) => {
            let passed = difference.passed.into_iter().flat_map(|it| [Change::Added(it.clone()), Change::Deleted(it)]);
            passed.chain(now.map(Change::Added)).collect()
        }
        (Some(old), None) => vec![Change::Deleted(old)],
        (Some(old), Some(new)) if old.meta().uid == new.meta().uid => vec![Change::Modified { old, new }],
        (Some(old), Some(new)) => vec![Change::Deleted(old), Change::Added(new)],
    }
}
