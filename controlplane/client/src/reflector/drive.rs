//! Drives one cache from one watch until it is cancelled: backs off after failures, resumes where it was, lists again
//! when the server no longer knows that revision.
//!
//! Must not know: subscribers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use parking_lot::RwLock;
use pintle_daemon::backoff::Backoff;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Watched;
use super::cache::Cache;

/// Bounds of the delay between tries. Upstream's reflectors wait 800 ms to 30 s; starting lower lets a process whose
/// API server comes up beside it start at once.
const DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

pub(super) async fn run<K: Watched>(
    api: Api<K>,
    config: watcher::Config,
    trim: fn(&mut K),
    cache: Arc<RwLock<Cache<K>>>,
    synced: watch::Sender<bool>,
    cancel: CancellationToken,
) {
    let url = api.resource_url().to_owned();
    let events =
        watcher::watcher(api, config).map(|event| event.map(|event| event.modify(|object| strip(object, trim))));
    let mut events = std::pin::pin!(events);
    let mut backoff = Backoff::new(DELAYS.0, DELAYS.1);
    let mut listed = Vec::new();
    while let Some(Some(event)) = cancel.run_until_cancelled(events.next()).await {
        match event {
            Ok(event) => {
                // `Init` only says that a list is about to be tried
                if !matches!(event, Event::Init) {
                    backoff.reset();
                }
                step(event, &mut listed, &cache, &synced);
            }
            Err(error) => {
                tracing::warn!(%url, error = crate::error::chain(&error), "watch interrupted");
                cancel.run_until_cancelled(tokio::time::sleep(backoff.next_delay())).await;
            }
        }
    }
    cache.write().close();
}

fn step<K: Watched>(event: Event<K>, listed: &mut Vec<K>, cache: &RwLock<Cache<K>>, synced: &watch::Sender<bool>) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => listed.push(object),
        Event::InitDone => {
            cache.write().replace(std::mem::take(listed));
            synced.send_replace(true);
        }
        Event::Apply(object) => cache.write().apply(object),
        Event::Delete(object) => cache.write().delete(&object),
    }
}

fn strip<K: Watched>(object: &mut K, trim: fn(&mut K)) {
    object.meta_mut().managed_fields = None;
    trim(object);
}
