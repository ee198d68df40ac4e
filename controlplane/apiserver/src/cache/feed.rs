//! The one reader of the store: fills the caches, then carries every change to its cache, in revision order.
//!
//! Must not know: who reads the caches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use pintle_store::{Batch, Entry, Error, Event, Range, Store, Watch, WatchEnd};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ordered::Ordered;
use super::window::Window;
use super::{Cache, Caches, Change, ChangeKind};

const ROOT: &str = "/registry/";
/// Entries read at a time while filling.
const PAGE: usize = 2000;

struct Feed {
    store: Arc<dyn Store>,
    caches: Arc<Caches>,
    seen: watch::Sender<u64>,
}

/// Fills `caches`; answers when that is done and leaves a task behind that follows the store until `cancel`.
pub async fn start(
    store: Arc<dyn Store>,
    caches: Arc<Caches>,
    seen: watch::Sender<u64>,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let feed = Feed { store, caches, seen };
    let watch = feed.fill().await?;
    tokio::spawn(cancel.run_until_cancelled_owned(feed.follow(watch)));
    Ok(())
}

impl Feed {
    /// Reads everything at one revision and watches from there.
    async fn fill(&self) -> anyhow::Result<Watch> {
        let revision = self.store.revision().await.context("asking the store for its revision")?;
        let caches = self.caches.by_prefix.load_full();
        let mut filled: HashMap<&str, Ordered> = HashMap::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let start_after = after.as_deref();
            let range = Range { prefix: ROOT, start_after, limit: PAGE, revision: Some(revision), count: false };
            let page = self.store.range(range).await.context("reading the store")?;
            for entry in &page.entries {
                if let Some((prefix, cache)) = cache_of(&caches, &entry.key) {
                    filled.entry(prefix).or_default().insert(Arc::new(cache.stored(entry)));
                }
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more {
                break;
            }
        }
        for (prefix, cache) in caches.iter() {
            cache.refill(filled.remove(prefix.as_str()).unwrap_or_default(), revision);
        }
        self.seen.send_replace(revision);
        self.store.watch(ROOT, revision).await.context("watching the store")
    }

    async fn follow(self, mut watch: Watch) {
        loop {
            let end = match watch.next().await {
                Ok(batch) => {
                    self.publish(&batch);
                    continue;
                }
                Err(end) => end,
            };
            match self.again(end).await {
                Ok(next) => watch = next,
                Err(error) => {
                    tracing::error!("the caches follow the store no longer: {error:#}");
                    return;
                }
            }
        }
    }

    /// Goes on where the watch ended; where history is gone, fills everything anew, which ends every watcher.
    async fn again(&self, end: WatchEnd) -> anyhow::Result<Watch> {
        let seen = *self.seen.borrow();
        let again = match end {
            WatchEnd::Slow => self.store.watch(ROOT, seen).await,
            WatchEnd::Store(error) => Err(error),
        };
        match again {
            Err(Error::Compacted { .. }) => self.fill().await,
            other => Ok(other?),
        }
    }

    fn publish(&self, batch: &Batch) {
        let now = Instant::now();
        let caches = self.caches.by_prefix.load();
        let mut rest = &batch.events[..];
        let mut touched: Vec<&Arc<Cache>> = Vec::new();
        while let Some(first) = rest.first() {
            let owner = cache_of(&caches, first.key());
            let same = |event: &&Event| match owner {
                Some((prefix, _)) => event.key().starts_with(prefix),
                None => cache_of(&caches, event.key()).is_none(),
            };
            // a run of one cache's events takes its lock once
            let run = rest.iter().take_while(same).count().max(1);
            let (events, after) = rest.split_at(run);
            rest = after;
            if let Some((_, cache)) = owner {
                cache.apply(events, now);
                if !touched.iter().any(|other| Arc::ptr_eq(other, cache)) {
                    touched.push(cache);
                }
            }
        }
        // after the changes, so that whoever sees the revision sees them
        self.seen.send_replace(batch.revision);
        touched.iter().for_each(|cache| cache.changed.notify_waiters());
    }
}

fn cache_of<'a>(caches: &'a HashMap<String, Arc<Cache>>, key: &str) -> Option<(&'a str, &'a Arc<Cache>)> {
    let end = key.match_indices('/').nth(3).map(|(at, _)| at + 1)?;
    let (prefix, cache) = caches.get_key_value(key.get(..end)?)?;
    Some((prefix, cache))
}

impl Cache {
    fn refill(&self, objects: Ordered, revision: u64) {
        let mut state = self.state.write();
        if state.revision == 0 && state.window.end() == 0 {
            state.window = Window::new(revision);
        } else {
            state.window.restart(revision);
        }
        state.objects = objects;
        state.revision = revision;
        drop(state);
        self.changed.notify_waiters();
    }

    fn apply(&self, events: &[Event], now: Instant) {
        // parsed before the lock is taken
        let objects: Vec<_> = events.iter().map(|event| Arc::new(self.stored(&shown(event)))).collect();
        let mut state = self.state.write();
        for (event, object) in events.iter().zip(objects) {
            state.revision = event.revision();
            let (kind, prev) = match event {
                Event::Put { .. } => match state.objects.insert(object.clone()) {
                    None => (ChangeKind::Added, None),
                    prev => (ChangeKind::Modified, prev),
                },
                Event::Delete { .. } => (ChangeKind::Deleted, state.objects.remove(&object.key)),
            };
            state.window.push(Change { kind, object, prev }, now);
        }
    }
}

/// The entry that watchers are shown: of a deletion what was there, at the deletion's revision.
fn shown(event: &Event) -> Entry {
    match event {
        Event::Put { entry, .. } => entry.clone(),
        Event::Delete { revision, prev } => Entry { mod_revision: *revision, ..prev.clone() },
    }
}
