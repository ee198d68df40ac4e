//! What a controller has written and its caches may not show yet. Without it, a controller that looks at a cache that
//! lags would create its pods twice.
//!
//! Must not know: what is written.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use kube::Resource;
use parking_lot::Mutex;
use pintle_client::{Reflector, revision_of};

/// After this long a write that never showed up is forgotten, as upstream's expectations are.
const FORGET: Duration = Duration::from_secs(300);
/// With more owners than this, those without a recent write are forgotten.
const OWNERS: usize = 1000;

/// Writes by the UID of the owner that they were made for.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, Writes>>);

struct Writes {
    revision: u64,
    deleted: HashSet<String>,
    last: Instant,
}

impl Ledger {
    /// `object` was created or changed for `owner`, as the API answered it.
    pub fn wrote<K: Resource>(&self, owner: &str, object: &K) {
        let revision = revision_of(object);
        self.with(owner, |writes| writes.revision = writes.revision.max(revision));
    }

    /// The object with this UID was deleted for `owner`.
    pub fn deleted(&self, owner: &str, uid: &str) {
        self.with(owner, |writes| {
            writes.deleted.insert(uid.to_owned());
        });
    }

    /// Whether the cache does not show yet everything written for `owner`: deciding has to wait for its next event.
    pub fn is_behind<K>(&self, owner: &str, cache: &Reflector<K>) -> bool {
        let writes = self.0.lock();
        let Some(writes) = writes.get(owner) else { return false };
        writes.last.elapsed() < FORGET && cache.revision() < writes.revision
    }

    /// Of the objects deleted for `owner`, those that the cache still shows; `present` is what it shows.
    pub fn still_deleting(&self, owner: &str, present: &HashSet<&str>) -> HashSet<String> {
        let mut all = self.0.lock();
        let Some(writes) = all.get_mut(owner) else { return HashSet::new() };
        if writes.last.elapsed() >= FORGET {
            writes.deleted.clear();
        }
        writes.deleted.retain(|uid| present.contains(uid.as_str()));
        writes.deleted.clone()
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &str) {
        self.0.lock().remove(owner);
    }

    fn with(&self, owner: &str, change: impl FnOnce(&mut Writes)) {
        let mut all = self.0.lock();
        if all.len() > OWNERS {
            all.retain(|_, writes| writes.last.elapsed() < FORGET);
        }
        let new = || Writes { revision: 0, deleted: HashSet::new(), last: Instant::now() };
        let writes = all.entry(owner.to_owned()).or_insert_with(new);
        writes.last = Instant::now();
        change(writes);
    }
}
