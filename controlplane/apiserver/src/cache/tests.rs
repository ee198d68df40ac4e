//! The caches over a real store.

mod paging;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pintle_api::kinds;
use pintle_store::{Options, Store};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

/// A store in a directory of its own, with its caches.
struct World {
    caches: Arc<Caches>,
    store: Arc<dyn Store>,
    _cancel: DropGuard,
    _dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(pintle_store::open(dir.path(), Options::default()).unwrap());
        let cancel = CancellationToken::new();
        let caches = Caches::open(store.clone(), kinds::all(), cancel.clone()).await.unwrap();
        Self { caches, store, _cancel: cancel.drop_guard(), _dir: dir }
    }

    fn of(&self, plural: &str) -> Arc<Cache> {
        self.caches.of("", plural).unwrap()
    }
}

fn json(text: &str) -> Bytes {
    let value = serde_json::json!({ "metadata": { "name": "x", "labels": { "text": text } }, "data": text });
    value.to_string().into()
}

async fn next(watcher: &mut Watcher) -> Change {
    let next = tokio::time::timeout(Duration::from_secs(60), watcher.next()).await;
    next.expect("a change was lost").expect("the watcher was closed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_visible_when_it_answers() {
    let world = World::new().await;
    let pods = world.of("pods");
    let created = pods.create("ns", "a", json("1")).await.unwrap();
    assert!(Arc::ptr_eq(&created, &pods.get("ns", "a").unwrap()));
    assert_eq!(created.value()["metadata"]["resourceVersion"], created.revision.to_string());
    assert_eq!((&*created.namespace, &*created.name, created.label("text")), ("ns", "a", Some("1")));
    let updated = pods.update("ns", "a", created.revision, json("2")).await.unwrap();
    assert_eq!(updated.revision, created.revision + 1);
    let deleted = pods.delete("ns", "a", updated.revision).await.unwrap();
    assert_eq!((deleted.revision, deleted.label("text")), (updated.revision + 1, Some("2")));
    assert_eq!(deleted.value()["metadata"]["resourceVersion"], deleted.revision.to_string());
    assert!(pods.get("ns", "a").is_none());
    assert_eq!(pods.list(None).revision, deleted.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_cannot_be_made_says_why() {
    let world = World::new().await;
    let pods = world.of("pods");
    let created = pods.create("ns", "a", json("1")).await.unwrap();
    assert!(matches!(pods.create("ns", "a", json("x")).await, Err(CommitError::Exists)));
    assert!(matches!(pods.update("ns", "b", created.revision, json("x")).await, Err(CommitError::Gone)));
    assert!(matches!(pods.delete("ns", "b", created.revision).await, Err(CommitError::Gone)));
    let conflict = pods.update("ns", "a", created.revision - 1, json("x")).await;
    let Err(CommitError::Conflict(Some(current))) = conflict else { panic!("no conflict") };
    assert_eq!((current.revision, &current.json), (created.revision, &created.json));
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_opened_later_show_what_is_stored() {
    let world = World::new().await;
    let pods = world.of("pods");
    for name in ["c", "a", "b"] {
        pods.create("ns", name, json(name)).await.unwrap();
    }
    pods.create("ns2", "a", json("")).await.unwrap();
    world.of("nodes").create("", "n", json("")).await.unwrap();
    let cancel = CancellationToken::new();
    let later = Caches::open(world.store.clone(), kinds::all(), cancel.clone()).await.unwrap();
    let names = |ns| {
        let items = later.of("", "pods").unwrap().list(ns).items;
        items.iter().map(|object| object.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(Some("ns")), ["a", "b", "c"]);
    assert_eq!(names(Some("n")), [""; 0]);
    assert_eq!(names(None).len(), 4);
    let shown = later.of("", "pods").unwrap().get("ns", "a").unwrap();
    assert_eq!(shown.json, pods.get("ns", "a").unwrap().json);
    assert_eq!(later.of("", "nodes").unwrap().list(None).revision, world.store.revision().await.unwrap());
    cancel.cancel();
}

#[tokio::test]
async fn a_revision_that_is_not_there_in_time_is_too_large() {
    let world = World::new().await;
    let error = world.of("pods").at_least(1000, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.message, "Timeout: Too large resource version: 1000, current: 1");
    assert_eq!((error.code, error.details["causes"][0]["reason"].as_str()), (504, Some("ResourceVersionTooLarge")));
}
