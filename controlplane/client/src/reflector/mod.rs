//! A `Reflector`: one watch of one kind, a cache of what it showed, and subscribers told of every difference.
//!
//! Objects are told apart by UID: a name that came back with another UID is a delete and an add. A list after an
//! interruption replaces the cache at once, and its differences, deletes included, are delivered like any event.
//! A subscriber has a queue of its own that holds at most one pending change per object, so a slow one costs memory in
//! proportion to the objects it has not looked at, and never blocks the watch.
//!
//! Must not know: what its readers do with the objects.

mod cache;
mod drive;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use kube::runtime::watcher;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use cache::Cache;
pub use queue::Subscription;

/// A namespace (empty for what has none) and a name: where an object is, not which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// An object's resource version as a number; 0 where it has none. Versions of one kind may be compared (upstream:
/// KEP-5504).
pub fn revision_of<K: kube::Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// A difference in one object, as a subscriber sees it.
#[derive(Debug)]
pub enum Change<K> {
    Added(Arc<K>),
    /// Same UID, another resource version.
    Modified {
        old: Arc<K>,
        new: Arc<K>,
    },
    /// The last state seen before the object went.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest state of the object; of a deleted one, its last.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Added(object) | Change::Deleted(object) | Change::Modified { new: object, .. } => object,
        }
    }
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Change::Added(object) => Change::Added(object.clone()),
            Change::Modified { old, new } => Change::Modified { old: old.clone(), new: new.clone() },
            Change::Deleted(object) => Change::Deleted(object.clone()),
        }
    }
}

/// What a reflector's cache may hold of an object.
pub trait Watched: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static {}
impl<K: kube::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Watched for K {}

/// A watch of one kind with its cache. Cloning shares both; the watch ends with `cancel`, or with the last clone and
/// subscription.
pub struct Reflector<K> {
    cache: Arc<RwLock<Cache<K>>>,
    synced: watch::Receiver<bool>,
    running: Arc<DropGuard>,
}

impl<K> Clone for Reflector<K> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), synced: self.synced.clone(), running: self.running.clone() }
    }
}

impl<K: Watched> Reflector<K> {
    /// Watches everything that `api` and `config` select. `managedFields` are not kept.
    pub fn start(api: kube::Api<K>, config: watcher::Config, cancel: CancellationToken) -> Self {
        Self::start_trimmed(api, config, cancel, |_| {})
    }

    /// As [`Reflector::start`]; `trim` removes what no reader of this reflector needs before an object is kept.
    pub fn start_trimmed(
        api: kube::Api<K>,
        config: watcher::Config,
        cancel: CancellationToken,
        trim: fn(&mut K),
    ) -> Self {
        let cache = Arc::new(RwLock::new(Cache::default()));
        let (synced_sender, synced) = watch::channel(false);
        let stop = cancel.child_token();
        tokio::spawn(drive::run(api, config, trim, cache.clone(), synced_sender, stop.clone()));
        Self { cache, synced, running: Arc::new(stop.drop_guard()) }
    }

    /// Changes from here on; what is present comes first, as added.
    pub fn subscribe(&self) -> Subscription<K> {
        Subscription::new(self.cache.write().subscribe(), self.running.clone())
    }
}

impl<K> Reflector<K> {
    /// Keeps an index of who controls what from here on, for [`Reflector::list_owned`].
    pub fn index_owners(&self)
    where
        K: kube::Resource,
    {
        self.cache.write().index_owners();
    }

    /// Waits until the first list is complete. Also returns when the watch was cancelled before that: a caller that
    /// goes on then finds its own token cancelled.
    pub async fn synced(&self) {
        // an error means that the watch task ended
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// The object now under that name; the namespace of a cluster-scoped object is empty.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.cache.read().get(namespace, name)
    }

    /// Every object, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.cache.read().iter().cloned().collect()
    }

    /// The objects of one namespace, in no order.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.cache.read().iter_namespace(namespace).cloned().collect()
    }

    /// The objects of one namespace whose controller has that name, of whatever kind; with an empty name those without a
    /// controller. Without [`Reflector::index_owners`] all of the namespace: the caller looks at the owner itself anyway.
    pub fn list_owned(&self, namespace: &str, controller: &str) -> Vec<Arc<K>> {
        self.cache.read().iter_owned(namespace, controller).cloned().collect()
    }

    /// Looks at every object under the cache's lock: `look` must be quick and must not call this reflector.
    pub fn for_each(&self, look: impl FnMut(&Arc<K>)) {
        self.cache.read().iter().for_each(look);
    }

    /// The newest resource version this cache has shown, of any object, deletes included. An object written at revision
    /// `r` is in the cache, or known to be gone, once this is at least `r`.
    pub fn revision(&self) -> u64 {
        self.cache.read().revision()
    }

    pub fn len(&self) -> usize {
        self.cache.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
