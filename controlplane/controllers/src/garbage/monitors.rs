//! One metadata watch per deletable kind, as discovery finds them; every change goes into the graph.
//!
//! Must not know: what is deleted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use parking_lot::Mutex;
use pintle_client::error::chain;
use pintle_client::{Change, Reflector};
use tokio_util::sync::CancellationToken;

use super::graph::{Graph, Node};
use crate::context::{Context, Deletion};
use crate::discovery::{self, Served};
use crate::work::Queue;

type Metadata = PartialObjectMeta<DynamicObject>;

/// Kinds are looked for again this often even if nothing says that they changed.
const REDISCOVER: Duration = Duration::from_secs(300);
/// A new kind is served shortly after its definition changed, not at once.
const SETTLE: Duration = Duration::from_secs(2);
/// A kind that cannot be listed must not hold up all others.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

pub struct Monitors {
    pub graph: Arc<Mutex<Graph>>,
    pub queue: Queue<String>,
    context: Context,
    client: kube::Client,
    running: Mutex<HashMap<(String, String), Monitor>>,
    kinds: Mutex<HashMap<(String, String), Arc<Served>>>,
}

struct Monitor {
    stop: CancellationToken,
    metadata: Reflector<Metadata>,
}

impl Monitors {
    pub fn new(context: Context, client: kube::Client, queue: Queue<String>) -> Self {
        Self { graph: Arc::default(), queue, context, client, running: Mutex::default(), kinds: Mutex::default() }
    }

    /// How the kind that an owner reference names is served.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<Served>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds.lock().get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    /// Starts the watches and waits for them.
    pub async fn start(&self) {
        while let Err(error) = self.rediscover().await {
            tracing::warn!(error = chain(error.as_ref()), "garbage collection waits for discovery");
            tokio::time::sleep(SETTLE).await;
        }
        let reflectors: Vec<Reflector<Metadata>> =
            self.running.lock().values().map(|monitor| monitor.metadata.clone()).collect();
        let synced = futures::future::join_all(reflectors.iter().map(Reflector::synced));
        if tokio::time::timeout(SYNC_LIMIT, synced).await.is_err() {
            tracing::warn!("garbage collection starts without the lists of some kinds");
        }
    }

    /// Follows changes of custom resource definitions and aggregated APIs.
    pub async fn follow(&self) {
        let definitions: Vec<Reflector<Metadata>> = {
            let running = self.running.lock();
            let sources = ["customresourcedefinitions", "apiservices"];
            let named = running.iter().filter(|((_, plural), _)| sources.contains(&plural.as_str()));
            named.map(|(_, monitor)| monitor.metadata.clone()).collect()
        };
        let changed = Arc::new(tokio::sync::Notify::new());
        for definition in &definitions {
            let changed = changed.clone();
            self.context.each(definition, move |_| changed.notify_one());
        }
        while !self.context.cancel.is_cancelled() {
            tokio::select! {
                () = self.context.cancel.cancelled() => return,
                () = changed.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(REDISCOVER) => {}
            }
            if let Err(error) = self.rediscover().await {
                tracing::warn!(error = chain(error.as_ref()), "kinds not discovered");
            }
        }
    }

    async fn rediscover(&self) -> anyhow::Result<()> {
        let found = discovery::discover(&self.client).await?;
        let incomplete = !found.failed.is_empty();
        let kinds: Vec<Arc<Served>> = found.kinds.into_iter().map(Arc::new).collect();
        let names = kinds.iter().map(|kind| ((kind.resource.group.clone(), kind.resource.kind.clone()), kind.clone()));
        self.kinds.lock().extend(names);
        let deletable: Vec<Arc<Served>> = kinds.into_iter().filter(|kind| is_collected(kind)).collect();
        let served: BTreeSet<(String, String)> = deletable.iter().map(|kind| key(kind)).collect();
        let mut running = self.running.lock();
        if !incomplete {
            running.retain(|key, monitor| {
                let keep = served.contains(key);
                if !keep {
                    monitor.stop.cancel();
                }
                keep
            });
        }
        for kind in deletable {
            running.entry(key(&kind)).or_insert_with(|| self.watch(kind));
        }
        Ok(())
    }

    fn watch(&self, kind: Arc<Served>) -> Monitor {
        let stop = self.context.cancel.child_token();
        let api: Api<Metadata> = Api::all_with(self.client.clone(), &kind.resource);
        let metadata = Reflector::start_trimmed(api, watcher::Config::default(), stop.clone(), trim);
        let (graph, queue) = (self.graph.clone(), self.queue.clone());
        let deletions = self.context.deletions.clone();
        self.context.each(&metadata, move |change| {
            let look = match change {
                Change::Deleted(object) => {
                    let namespace = object.metadata.namespace.clone().unwrap_or_default();
                    // an error means that nobody listens
                    let _ = deletions.send(Deletion { kind: kind.clone(), namespace });
                    graph.lock().remove(object.metadata.uid.as_deref().unwrap_or_default())
                }
                other => graph.lock().apply(Node::seen(kind.clone(), &other.object().metadata)),
            };
            look.into_iter().for_each(|uid| queue.add(uid));
        });
        Monitor { stop, metadata }
    }
}

fn key(kind: &Served) -> (String, String) {
    (kind.resource.group.clone(), kind.resource.plural.clone())
}

/// Events own nothing and are many.
fn is_collected(kind: &Served) -> bool {
    ["list", "watch", "delete"].iter().all(|verb| kind.can(verb)) && kind.resource.kind != "Event"
}

fn trim(object: &mut Metadata) {
    object.metadata.labels = None;
    object.metadata.annotations = None;
}
