//! The ReplicaSet controller: keeps as many pods as a ReplicaSet asks for.
//!
//! Must not know: Deployments.

mod plan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use pintle_client::ObjectKey;
use pintle_client::events::reference;

use crate::context::Context;
use crate::ledger::Ledger;
use crate::owner;
use crate::pod_control::{PodControl, from_template, said, slow_start};
use crate::work::Outcome;
use crate::{api, claims, pods};
use plan::Plan;

const NAME: &str = "replicaset-controller";
/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);

struct Controller {
    context: Context,
    control: PodControl,
    ledger: Ledger,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.replica_sets.synced(), caches.pods.synced());
    let queue = context.queue("replicaset");
    context.feed(&caches.replica_sets, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let sets = caches.replica_sets.clone();
    context.feed(&caches.pods, &queue, move |change| {
        owner::concerned(change, &sets, |set| set.spec.as_ref().map(|spec| &spec.selector))
    });
    let client = context.client(NAME);
    let control = PodControl { recorder: context.recorder(&client, NAME), client };
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, control, ledger: Ledger::default() });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

/// The pods of a set.
struct Seen {
    active: Vec<Arc<Pod>>,
    terminating: usize,
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let Some(set) = self.context.caches.replica_sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        if self.ledger.is_behind(&uid, &self.context.caches.pods) {
            return Ok(Some(LAG));
        }
        let now = api::now();
        let seen = self.see(&set, &uid).await?;
        let failure = match set.metadata.deletion_timestamp {
            None => self.change(&set, &uid, &seen.active, now).await,
            Some(_) => {
                self.ledger.forget(&uid);
                None
            }
        };
        let active: Vec<&Pod> = seen.active.iter().map(AsRef::as_ref).collect();
        let status = plan::status(&set, &active, seen.terminating, failure.as_deref(), now);
        self.report(&set, status).await?;
        match failure {
            Some(failure) => Err(anyhow::anyhow!(failure)),
            None => Ok(next_check(&set, &active, now)),
        }
    }

    async fn see(&self, set: &ReplicaSet, uid: &str) -> anyhow::Result<Seen> {
        let cache = &self.context.caches.pods;
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let own = claims::pods_of(set, selector, cache, &self.control).await?;
        let present: HashSet<&str> = own.iter().map(|pod| pods::uid(pod)).collect();
        let deleting = self.ledger.still_deleting(uid, &present);
        let own = own.iter().filter(|pod| !pods::is_terminal(pod));
        let going = |pod: &Pod| pods::is_terminating(pod) || deleting.contains(pods::uid(pod));
        let (terminating, active): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = own.cloned().partition(|pod| going(pod));
        Ok(Seen { active, terminating: terminating.len() })
    }

    /// Creates or deletes pods; why that failed.
    async fn change(&self, set: &ReplicaSet, uid: &str, active: &[Arc<Pod>], now: Timestamp) -> Option<String> {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let refs: Vec<&Pod> = active.iter().map(AsRef::as_ref).collect();
        let related = self.related(set);
        let related: Vec<&Pod> = related.iter().map(AsRef::as_ref).collect();
        match plan::plan(wanted, &refs, &related, now) {
            Plan::Nothing => None,
            Plan::Create(count) => self.create(set, uid, count).await,
            Plan::Delete(pods) => self.delete(set, uid, pods).await,
        }
    }

    async fn create(&self, set: &ReplicaSet, uid: &str, count: usize) -> Option<String> {
        let template = set.spec.as_ref()?.template.as_ref()?;
        let (namespace, name) = (set.metadata.namespace.as_deref()?, set.metadata.name.as_deref()?);
        let pod = from_template(template, namespace, name, owner::controller_reference(set));
        let about = reference(set);
        let (_, error) = slow_start(count, |_| async {
            let created = self.control.create(&pod, &about).await?;
            created.inspect(|pod| self.ledger.wrote(uid, pod));
            Ok::<_, kube::Error>(())
        })
        .await;
        error.map(|error| said(&error))
    }

    async fn delete(&self, set: &ReplicaSet, uid: &str, pods: Vec<&Pod>) -> Option<String> {
        let about = reference(set);
        let deletions = pods.into_iter().map(|pod| async {
            self.control.delete(pod, &about).await?;
            self.ledger.deleted(uid, pods::uid(pod));
            Ok::<_, kube::Error>(())
        });
        let results = futures::future::join_all(deletions).await;
        results.into_iter().find_map(Result::err).map(|error| said(&error))
    }

    /// The pods of every set with the same owner, this one included.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let owner = owner::controller_of(&set.metadata).map(|owner| owner.uid.as_str());
        let sets = self.context.caches.replica_sets.list_namespace(namespace);
        let sibling =
            |other: &ReplicaSet| owner::controller_of(&other.metadata).map(|owner| owner.uid.as_str()) == owner;
        let uids: HashSet<&str> = match owner {
            Some(_) => {
                sets.iter().filter(|other| sibling(other)).filter_map(|set| set.metadata.uid.as_deref()).collect()
            }
            None => set.metadata.uid.as_deref().into_iter().collect(),
        };
        let mut pods = self.context.caches.pods.list_namespace(namespace);
        pods.retain(|pod| owner::controller_of(&pod.metadata).is_some_and(|owner| uids.contains(owner.uid.as_str())));
        pods
    }

    async fn report(&self, set: &ReplicaSet, status: ReplicaSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let (namespace, name) = (set.metadata.namespace.as_deref(), set.metadata.name.as_deref());
        let sets = api::namespaced::<ReplicaSet>(&self.control.client, namespace.unwrap_or_default());
        let new = ReplicaSet { status: Some(status), ..set.clone() };
        let written = sets.replace_status(name.unwrap_or_default(), &PostParams::default(), &new).await;
        api::ignore_not_found(written).context("writing the status")
    }
}

/// When the next ready pod becomes available.
fn next_check(set: &ReplicaSet, active: &[&Pod], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).filter(|seconds| *seconds > 0)?;
    let waits = active.iter().filter(|pod| pods::is_ready(pod));
    let waits = waits.filter_map(|pod| pods::available_in(pod, min_ready, now)).filter(|wait| wait.is_positive());
    waits.min().and_then(|wait| Duration::try_from(wait).ok()).map(|wait| wait + Duration::from_millis(100))
}
