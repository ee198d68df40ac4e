//! What every store must do, written against `dyn Store`: each implementation's test file calls these.
//!
//! Must not know: which store it has.

pub mod history;
pub mod watching;
pub mod writing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pintle_store::{Entry, Event, Store, Watch, Write, WriteError};

pub type Shared = Arc<dyn Store>;

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub async fn create(store: &Shared, key: &str, value: &str) -> Entry {
    let write = Write::Create { key: key.into(), value: bytes(value) };
    store.write(write).await.unwrap_or_else(|error| panic!("creating {key}: {error}"))
}

pub async fn update(store: &Shared, entry: &Entry, value: &str) -> Result<Entry, WriteError> {
    let expect = entry.mod_revision;
    store.write(Write::Update { key: entry.key.clone(), expect, value: bytes(value) }).await
}

pub async fn delete(store: &Shared, entry: &Entry) -> Result<Entry, WriteError> {
    store.write(Write::Delete { key: entry.key.clone(), expect: entry.mod_revision }).await
}

/// The next `count` events; a generous bound turns a lost one into a failure instead of a hang.
pub async fn events(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        events.extend_from_slice(&batch.expect("an event was lost").expect("the watch ended").events);
    }
    events
}
