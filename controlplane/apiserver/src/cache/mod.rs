//! The watch cache: every stored object in memory, in the bytes that are sent, with the last changes of each
//! resource. Reads and watches are served from here; writes go to the store and come back through its watch.
//!
//! Must not know: verbs, selectors, who may do what, how the store keeps what it is given.

mod commit;
mod feed;
mod head;
mod ordered;
mod stored;
#[cfg(test)]
mod tests;
mod watcher;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use parking_lot::RwLock;
use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use pintle_store::{Range, Store};
use serde_json::json;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use commit::CommitError;
pub use stored::Stored;
pub use watcher::Watcher;

use ordered::Ordered;
use watcher::Initial;
use window::Window;

/// A watch that only wakes begins anew when it is further behind than this.
const WAKING: usize = 1024;

/// The objects of a list, in key order, and the revision they are of.
pub struct Listing {
    pub revision: u64,
    pub items: Vec<Arc<Stored>>,
}

/// The revision asked for is gone from the window: 410.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Expired(pub String);

impl Expired {
    /// Upstream's words, from `watch_cache.go`.
    fn new(asked: u64, oldest: u64) -> Self {
        Self(format!("too old resource version: {asked} ({oldest})"))
    }
}

impl From<Expired> for Status {
    fn from(expired: Expired) -> Self {
        Status::expired(expired.0)
    }
}

/// One change of one object. `object` is what is there now, for a deletion what was there, with the deletion's
/// revision; `prev` is what was there before.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: ChangeKind,
    pub object: Arc<Stored>,
    pub prev: Option<Arc<Stored>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    /// Of its object, only the revision means anything. `initial`: what was there at the start has been sent.
    Bookmark {
        initial: bool,
    },
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With what is there now, as `Added`; as upstream watches without a resourceVersion.
    Now,
    /// After this revision.
    Revision(u64),
    /// With what is there now, as `Added`, and a bookmark after it.
    InitialEvents,
}

/// The caches of every stored resource.
pub struct Caches {
    /// By `/registry/<group>/<plural>/`.
    by_prefix: ArcSwap<HashMap<String, Arc<Cache>>>,
    store: Arc<dyn Store>,
    seen: watch::Sender<u64>,
}

impl Caches {
    /// Fills a cache for every stored resource of `kinds` and follows the store until `cancel`.
    pub async fn open(
        store: Arc<dyn Store>,
        kinds: &'static [Kind],
        cancel: CancellationToken,
    ) -> anyhow::Result<Arc<Self>> {
        let (seen, _) = watch::channel(0);
        let mut by_prefix = HashMap::new();
        for kind in kinds.iter().filter(|kind| kind.stored()) {
            let (group, version, plural) = kind.storage;
            let stored_as =
                kinds.iter().find(|kind| (kind.group, kind.version, kind.plural) == (group, version, plural));
            let cache = || Arc::new(Cache::new(prefix(group, plural), stored_as, store.clone(), seen.clone()));
            by_prefix.entry(prefix(group, plural)).or_insert_with(cache);
        }
        let by_prefix = ArcSwap::from_pointee(by_prefix);
        let caches = Arc::new(Self { by_prefix, store: store.clone(), seen: seen.clone() });
        caches.add_custom().await.context("reading definitions of custom resources")?;
        feed::start(store, caches.clone(), seen, cancel).await?;
        Ok(caches)
    }

    /// The cache of a resource, named as its stored form is.
    pub fn of(&self, group: &str, plural: &str) -> Option<Arc<Cache>> {
        self.by_prefix.load().get(&prefix(group, plural)).cloned()
    }

    /// A cache for each custom resource whose definition is in the store, before anything is filled.
    async fn add_custom(&self) -> anyhow::Result<()> {
        const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
        let mut after: Option<Arc<str>> = None;
        loop {
            let start_after = after.as_deref();
            let range = Range { prefix: DEFINITIONS, start_after, limit: 500, revision: None, count: false };
            let page = self.store.range(range).await?;
            for entry in &page.entries {
                let definition: serde_json::Value = serde_json::from_slice(&entry.value).unwrap_or_default();
                for kind in pintle_api::custom::kinds(&definition).unwrap_or_default() {
                    self.add(kind);
                }
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Makes sure that the resource behind `kind` has a cache. A resource that had none has no objects: nobody could
    /// write one.
    pub fn add(&self, kind: &'static Kind) {
        let (group, _, plural) = kind.storage;
        let prefix = prefix(group, plural);
        if self.by_prefix.load().contains_key(&prefix) {
            return;
        }
        let cache = Arc::new(Cache::new(prefix.clone(), Some(kind), self.store.clone(), self.seen.clone()));
        let revision = *self.seen.borrow();
        cache.state.write().window = Window::new(revision);
        cache.state.write().revision = revision;
        self.by_prefix.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.entry(prefix.clone()).or_insert_with(|| cache.clone());
            all
        });
    }
}

fn prefix(group: &str, plural: &str) -> String {
    format!("/registry/{}/{plural}/", if group.is_empty() { "core" } else { group })
}

/// One resource's objects and its last changes.
pub struct Cache {
    prefix: String,
    /// Given where it has selectable fields.
    kind: Option<&'static Kind>,
    store: Arc<dyn Store>,
    /// Every cache shows at least this revision.
    seen: watch::Sender<u64>,
    state: RwLock<State>,
    changed: Notify,
}

struct State {
    objects: Ordered,
    window: Window,
    /// Of the last change.
    revision: u64,
}

impl Cache {
    fn new(prefix: String, kind: Option<&'static Kind>, store: Arc<dyn Store>, seen: watch::Sender<u64>) -> Self {
        let state = State { objects: Ordered::default(), window: Window::new(0), revision: 0 };
        Self {
            prefix,
            kind: kind.filter(|kind| head::is_selectable(kind)),
            store,
            seen,
            state: RwLock::new(state),
            changed: Notify::new(),
        }
    }

    fn key(&self, namespace: &str, name: &str) -> String {
        let separator = if namespace.is_empty() { "" } else { "/" };
        format!("{}{namespace}{separator}{name}", self.prefix)
    }

    /// What the keys in `namespace` start with, or all keys.
    fn prefix_of(&self, namespace: Option<&str>) -> String {
        namespace.map_or_else(|| self.prefix.clone(), |namespace| format!("{}{namespace}/", self.prefix))
    }

    /// `namespace` is empty for what lives in none.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.state.read().objects.get(&self.key(namespace, name)).cloned()
    }

    /// How many objects there are, in all namespaces.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn list(&self, namespace: Option<&str>) -> Listing {
        let (objects, revision) = self.snapshot(|state| state.objects.clone());
        let items = objects.iter(&self.prefix_of(namespace), None).cloned().collect();
        Listing { revision, items }
    }

    /// The objects after the key `after`, as they were at `revision`: how a paged list goes on.
    pub async fn list_from(&self, namespace: Option<&str>, revision: u64, after: &str) -> Result<Listing, Expired> {
        let objects = {
            let state = self.state.read();
            let then = state.window.back_to(revision, state.objects.clone());
            then.ok_or_else(|| Expired::new(revision, state.window.start()))?
        };
        let items = objects.iter(&self.prefix_of(namespace), Some(after)).cloned().collect();
        Ok(Listing { revision, items })
    }

    /// What `read` takes from the state, and the revision that it shows: all changes up to there, none after.
    fn snapshot<T>(&self, read: impl FnOnce(&State) -> T) -> (T, u64) {
        // in this order: what was seen before the lock is taken is in the state that it guards
        let seen = *self.seen.borrow();
        let state = self.state.read();
        (read(&state), seen.max(state.revision))
    }

    /// Waits until this cache shows `revision`. The error is upstream's for a revision that is not there in time.
    pub async fn at_least(&self, revision: u64, timeout: Duration) -> Result<(), Status> {
        if *self.seen.borrow() >= revision {
            return Ok(());
        }
        let mut seen = self.seen.subscribe();
        let reached = tokio::time::timeout(timeout, seen.wait_for(|seen| *seen >= revision)).await;
        // what was reached holds the channel's read lock: a second read here would wait for a writer that waits for it
        if reached.is_ok_and(|seen| seen.is_ok()) {
            return Ok(());
        }
        let current = *self.seen.borrow();
        let message = format!("Timeout: Too large resource version: {revision}, current: {current}");
        let mut status = Status::new(504, "Timeout", message);
        let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        status.details = json!({ "causes": [cause], "retryAfterSeconds": 1 });
        Err(status)
    }

    /// Wakes a loop that reads all anew: at first, and whenever something changed, until `cancel`.
    pub async fn wake(self: Arc<Self>, changed: Arc<Notify>, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let Ok(mut watcher) = self.watch(None, Since::Now, WAKING) else { return };
            // what came between the last watcher and this one is seen by reading anew
            changed.notify_one();
            while let Some(Some(_)) = cancel.run_until_cancelled(watcher.next()).await {
                changed.notify_one();
            }
        }
    }

    /// Changes from `since` on. A watcher more than `queue` changes behind is closed.
    pub fn watch(self: &Arc<Self>, namespace: Option<&str>, since: Since, queue: usize) -> Result<Watcher, Expired> {
        let prefix = self.prefix_of(namespace).into();
        if let Since::Revision(revision) = since {
            let state = self.state.read();
            let cursor = state.window.after(revision);
            let cursor = cursor.ok_or_else(|| Expired::new(revision, state.window.start()))?;
            // the client chose to begin behind; that does not count against it
            let queue = queue.max((state.window.end() - cursor) as usize + queue);
            return Ok(Watcher::new(self.clone(), prefix, None, cursor, revision, queue));
        }
        let ((objects, cursor), revision) = self.snapshot(|state| (state.objects.clone(), state.window.end()));
        let bookmark = since == Since::InitialEvents;
        let initial = Initial { objects, after: None, revision, bookmark };
        Ok(Watcher::new(self.clone(), prefix, Some(initial), cursor, 0, queue))
    }

    /// Completes with the next publication after it was first polled or enabled.
    fn published(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The revision that a watcher has reached that has taken every change before number `cursor`; `None` if there
    /// are more.
    fn idle_at(&self, cursor: u64) -> Option<u64> {
        let (idle, revision) = self.snapshot(|state| state.window.end() == cursor);
        idle.then_some(revision)
    }
}
