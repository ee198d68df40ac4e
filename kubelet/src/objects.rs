//! ConfigMaps and Secrets that pods refer to: one watch per object while anything refers to it, as upstream's
//! watch-based managers have.
//!
//! Must not know: what an object is used for.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::plan::environment::{Data, ObjectKind};

/// How long a reader waits for the first answer of the API.
const PATIENCE: Duration = Duration::from_secs(10);

type Key = (ObjectKind, String, String);

/// What is known of an object.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Nothing,
    Missing,
    Failed(String),
    Present(Arc<Data>),
}

/// A subscription to one object; the watch ends with the last of them.
pub struct Watched {
    state: watch::Receiver<Known>,
    _running: DropGuard,
}

/// One reader's place in an object's changes.
pub struct Subscription {
    state: watch::Receiver<Known>,
    _watched: Arc<Watched>,
}

impl Subscription {
    /// Waits for a change after the subscription began.
    pub async fn changed(&self) {
        // an error means the watch ended: nothing will change any more
        if self.state.clone().changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The node's watched objects. Clones share them.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    cancel: CancellationToken,
    watched: Arc<Mutex<HashMap<Key, Weak<Watched>>>>,
}

impl Objects {
    pub fn new(client: Client, cancel: CancellationToken) -> Self {
        Self { client, cancel, watched: Arc::default() }
    }

    /// The client the watches go through.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Keeps the object watched for as long as the answer lives.
    pub fn watch(&self, kind: ObjectKind, namespace: &str, name: &str) -> Arc<Watched> {
        let key = (kind, namespace.to_string(), name.to_string());
        let mut all = self.watched.lock();
        if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        all.retain(|_, watched| watched.strong_count() > 0);
        let (sender, state) = watch::channel(Known::Nothing);
        let stop = self.cancel.child_token();
        self.spawn(kind, namespace, name, sender, stop.clone());
        let watched = Arc::new(Watched { state, _running: stop.drop_guard() });
        all.insert(key, Arc::downgrade(&watched));
        watched
    }

    /// As [`Objects::watch`], and remembers what was already known.
    pub fn subscribe(&self, kind: ObjectKind, namespace: &str, name: &str) -> Subscription {
        let watched = self.watch(kind, namespace, name);
        let mut state = watched.state.clone();
        state.mark_unchanged();
        Subscription { state, _watched: watched }
    }

    fn spawn(&self, kind: ObjectKind, namespace: &str, name: &str, to: watch::Sender<Known>, stop: CancellationToken) {
        let name = name.to_string();
        match kind {
            ObjectKind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                tokio::spawn(async move { stop.run_until_cancelled(follow(api, name, to, config_map)).await });
            }
            ObjectKind::Secret => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                tokio::spawn(async move { stop.run_until_cancelled(follow(api, name, to, secret)).await });
            }
        }
    }

    /// The object's entries; none when it does not exist.
    ///
    /// # Errors
    /// The API refuses or does not answer in time: a text for the pod's events.
    pub async fn get(&self, kind: ObjectKind, namespace: &str, name: &str) -> Result<Option<Data>, String> {
        let watched = self.watch(kind, namespace, name);
        let mut state = watched.state.clone();
        let known = tokio::time::timeout(PATIENCE, state.wait_for(|known| *known != Known::Nothing)).await;
        match known {
            Ok(Ok(known)) => match &*known {
                Known::Present(data) => Ok(Some(data.as_ref().clone())),
                Known::Failed(error) => Err(error.clone()),
                Known::Missing | Known::Nothing => Ok(None),
            },
            _ => {
                Err(format!("failed to sync {} {namespace}/{name}: timed out waiting for the condition", kind.plural()))
            }
        }
    }
}

async fn follow<K>(api: Api<K>, name: String, to: watch::Sender<Known>, data: fn(K) -> Data)
where
    K: kube::Resource<Scope = NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let mut stream = watcher::watch_object(api, &name).default_backoff().boxed();
    while let Some(item) = stream.next().await {
        let known = match item {
            Ok(Some(object)) => Known::Present(Arc::new(data(object))),
            Ok(None) => Known::Missing,
            Err(error) => {
                // what was known stays good while the API is away
                to.send_if_modified(|known| {
                    let first = matches!(known, Known::Nothing | Known::Failed(_));
                    if first {
                        *known = Known::Failed(format!("{name}: {error}"));
                    }
                    first
                });
                continue;
            }
        };
        to.send_if_modified(|old| {
            let changed = *old != known;
            *old = known;
            changed
        });
    }
}

fn config_map(object: ConfigMap) -> Data {
    let text = object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    text.chain(binary).collect()
}

fn secret(object: Secret) -> Data {
    object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}
