//! Aggregated APIs: which groups and versions other servers have, how they are reached and what they say of themselves.
//! Follows the APIServices: what registers itself is registered, and each other server is looked after by tasks of its
//! own for as long as its APIService is there. Source: `k8s.io/kube-aggregator/pkg/apiserver`.
//!
//! Must not know: what the other servers serve.

mod ask;
mod availability;
mod documents;
mod metrics;
mod news;
mod proxy;
mod register;
mod remote;
mod trust;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use pintle_api::aggregation::order::{self, Listed};
use pintle_api::aggregation::register::{CUSTOM, priorities};
use pintle_api::aggregation::{GROUP, Registration};
use pintle_api::discovery::Group;
use pintle_api::object;
use pintle_daemon::backoff::Backoff;
use pintle_daemon::metrics::Metrics;
use serde_json::Value;
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::request::RequestInfo;
use crate::server::ApiServer;

pub(crate) use documents::Documents;
pub(crate) use proxy::serve;
pub(crate) use remote::Remote;

/// A watch further behind than this begins anew.
const QUEUE: usize = 1024;
/// How soon and how late what could not be written is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// The other servers, and what is told of them.
pub struct Aggregation {
    remotes: ArcSwap<Vec<Arc<Remote>>>,
    metrics: metrics::Availability,
    /// APIServices changed, or what is defined did.
    changed: Arc<Notify>,
}

impl Aggregation {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            remotes: ArcSwap::default(),
            metrics: metrics::Availability::new(metrics),
            changed: Arc::new(Notify::new()),
        }
    }

    /// Who else answers a request; None where this server does.
    pub(crate) fn remote(&self, info: &RequestInfo) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        if info.is_resource {
            return find(&remotes, &info.group, &info.version);
        }
        let path: Vec<&str> = info.path.trim_matches('/').split('/').collect();
        match path.as_slice() {
            ["api"] => find(&remotes, "", "v1"),
            ["api", version] => find(&remotes, "", version),
            ["apis", group, version] => find(&remotes, group, version),
            _ => None,
        }
    }

    /// Who else has the OpenAPI document of that name (`apis/<group>/<version>`).
    pub(crate) fn describes(&self, document: &str) -> Option<Arc<Remote>> {
        self.all().into_iter().find(|it| it.registration.path().trim_start_matches('/') == document)
    }

    /// Who else has a group and version.
    pub(crate) fn of(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        find(&self.remotes.load(), group, version)
    }

    /// What the others say of themselves, where they were asked already.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (Arc<Remote>, Arc<Documents>)> + use<> {
        self.all().into_iter().filter_map(|it| it.documents.load_full().map(|documents| (it, documents)))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Remote>> {
        self.remotes.load().to_vec()
    }

    /// The kinds that are served have changed.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }
}

fn find(remotes: &[Arc<Remote>], group: &str, version: &str) -> Option<Arc<Remote>> {
    let found = remotes.iter().find(|it| it.registration.group == group && it.registration.version == version);
    found.cloned()
}

impl ApiServer {
    /// The named groups that are served, here or elsewhere, in the order in which discovery lists them.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let listed = |it: &Registration| Listed {
            group: it.group.clone(),
            version: it.version.clone(),
            group_priority: it.group_priority,
            version_priority: it.version_priority,
        };
        let elsewhere = self.aggregation.all();
        let here = self.kinds().into_iter().map(|kind| {
            let (group_priority, version_priority) = match kind.custom {
                None => priorities(kind.group, kind.version).unwrap_or_default(),
                Some(_) => CUSTOM,
            };
            Listed { group: kind.group.into(), version: kind.version.into(), group_priority, version_priority }
        });
        order::groups(elsewhere.iter().map(|it| listed(&it.registration)).chain(here))
    }
}

/// Registers what registers itself, and follows the APIServices from here.
pub async fn start(server: &Arc<ApiServer>) -> anyhow::Result<()> {
    register::at_start(server).await?;
    trust::start(server).await?;
    let services = server.cache_of(GROUP, "apiservices")?;
    follow_remotes(server, &services);
    tokio::spawn(services.clone().wake(server.aggregation.changed.clone(), server.cancel.clone()));
    tokio::spawn(follow(Arc::downgrade(server), services));
    Ok(())
}

async fn follow(server: Weak<ApiServer>, services: Arc<Cache>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut failed = false;
    loop {
        let Some((cancel, changed)) = server.upgrade().map(|it| (it.cancel.clone(), it.aggregation.changed.clone()))
        else {
            return;
        };
        let again = async {
            match failed {
                true => tokio::time::sleep(backoff.next_delay()).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = changed.notified() => {}
            () = again => {}
        }
        let Some(server) = server.upgrade() else { return };
        follow_remotes(&server, &services);
        let all: Vec<Value> = services.list(None).items.iter().map(|stored| stored.value()).collect();
        server.aggregation.metrics.keep(&all.iter().map(|it| object::name(it).to_owned()).collect());
        failed = !register::settle(&server, &all).await;
        if !failed {
            backoff.reset();
        }
    }
}

/// Those that are there still stay as they are; each new one is looked after from here.
fn follow_remotes(server: &Arc<ApiServer>, services: &Cache) {
    let before = server.aggregation.all();
    let mut now = Vec::new();
    for stored in services.list(None).items {
        let object = stored.value();
        let registration = Registration::read(&object);
        if registration.service.is_none() || registration.group == GROUP {
            continue;
        }
        let known = before.iter().find(|it| it.uid == object::uid(&object)).cloned();
        let same = known.clone().filter(|it| it.registration == registration);
        let remote = same.unwrap_or_else(|| {
            let fresh = Remote::new(server, registration, &object);
            // until it is read anew
            fresh.documents.store(known.and_then(|it| it.documents.load_full()));
            fresh
        });
        now.push(remote);
    }
    let among = |all: &[Arc<Remote>], it: &Arc<Remote>| all.iter().any(|other| Arc::ptr_eq(it, other));
    let fresh: Vec<Arc<Remote>> = now.iter().filter(|it| !among(&before, it)).cloned().collect();
    before.iter().filter(|it| !among(&now, it)).for_each(|gone| gone.stop.cancel());
    server.aggregation.remotes.store(Arc::new(now));
    for remote in fresh {
        let stop = remote.stop.clone();
        let minded = availability::mind(Arc::downgrade(server), remote.clone());
        let read = documents::keep(Arc::downgrade(server), remote);
        tokio::spawn(async move { stop.run_until_cancelled(async { tokio::join!(minded, read) }).await });
    }
}
