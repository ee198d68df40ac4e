//! Role-based access control: the index over the cached roles and bindings, kept current by watching them.
//!
//! Must not know: any other way to be allowed something.

pub mod bootstrap;
pub mod index;
pub mod rule;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Caches, Since};
use index::{Index, Objects};

pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Changes waiting per watched kind; more only means that the index is built once for all of them.
const QUEUE: usize = 1024;

/// The index of the roles and bindings as they are now.
pub struct Rbac(ArcSwap<Index>);

struct Sources([Arc<Cache>; 4]);

impl Rbac {
    /// Reads what is there and follows it until `cancel`.
    pub fn start(caches: &Caches, cancel: CancellationToken) -> anyhow::Result<Arc<Self>> {
        let sources = Sources::find(caches)?;
        let rbac = Arc::new(Self(ArcSwap::from_pointee(Index::build(&sources.read()))));
        tokio::spawn(follow(rbac.clone(), sources, cancel));
        Ok(rbac)
    }

    pub fn index(&self) -> Arc<Index> {
        self.0.load_full()
    }
}

impl Sources {
    fn find(caches: &Caches) -> anyhow::Result<Self> {
        let find =
            |plural: &str| caches.of(GROUP, plural).ok_or_else(|| anyhow::anyhow!("{plural}.{GROUP} is not stored"));
        Ok(Self([find("clusterroles")?, find("roles")?, find("clusterrolebindings")?, find("rolebindings")?]))
    }

    fn read(&self) -> Objects {
        let [cluster_roles, roles, cluster_role_bindings, role_bindings] = self.0.each_ref().map(|cache| values(cache));
        Objects { cluster_roles, roles, cluster_role_bindings, role_bindings }
    }
}

fn values(cache: &Cache) -> Vec<Value> {
    cache.list(None).items.iter().map(|stored| stored.value()).collect()
}

/// Builds the index anew whenever anything changed; what changes meanwhile is built together next time.
async fn follow(rbac: Arc<Rbac>, sources: Sources, cancel: CancellationToken) {
    let changed = Arc::new(tokio::sync::Notify::new());
    for cache in &sources.0 {
        tokio::spawn(tell(cache.clone(), changed.clone(), cancel.clone()));
    }
    while cancel.run_until_cancelled(changed.notified()).await.is_some() {
        rbac.0.store(Arc::new(Index::build(&sources.read())));
    }
}

async fn tell(cache: Arc<Cache>, changed: Arc<tokio::sync::Notify>, cancel: CancellationToken) {
    while !cancel.is_cancelled() {
        let Ok(mut watcher) = cache.watch(None, Since::Now, QUEUE) else { return };
        // what came between the last watcher and this one is seen by reading anew
        changed.notify_one();
        while let Some(Some(_)) = cancel.run_until_cancelled(watcher.next()).await {
            changed.notify_one();
        }
    }
}
