//! The ReplicaSet controller: keeps as many pods as a ReplicaSet asks for; and a ReplicationController, its older form.
//!
//! Must not know: Deployments.

mod plan;
mod replicated;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use pintle_client::events::reference;
use pintle_client::{ObjectKey, Reflector};

use crate::context::Context;
use crate::ledger::Ledger;
use crate::owner;
use crate::pod_control::{PodControl, from_template, said, slow_start};
use crate::work::Outcome;
use crate::{api, claims, pods};
use plan::Plan;
use replicated::Replicated;

/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);

struct Controller<K> {
    context: Context,
    control: PodControl,
    sets: Reflector<K>,
    ledger: Ledger,
}

pub async fn run(context: Context) {
    let sets = context.caches.replica_sets.clone();
    start(context, sets, "replicaset", "replicaset-controller", |set| set.spec.as_ref().map(|spec| &spec.selector))
        .await;
}

pub async fn run_replication_controllers(context: Context) {
    let sets: Reflector<ReplicationController> = context.caches.replication_controllers.clone();
    // a pod that nobody manages is adopted when its controller is looked at for another reason
    start(context, sets, "replicationmanager", "replication-controller", |_| None).await;
}

/// `name` is the service account and the component in events.
async fn start<K: Replicated>(
    context: Context,
    sets: Reflector<K>,
    queue: &'static str,
    name: &str,
    selector: fn(&K) -> Option<&LabelSelector>,
) {
    let caches = context.caches.clone();
    tokio::join!(sets.synced(), caches.pods.synced());
    let queue = context.queue(queue);
    context.feed(&sets, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let owners = sets.clone();
    context.feed(&caches.pods, &queue, move |change| owner::concerned(change, &owners, selector));
    let client = context.client(name);
    let control = PodControl { recorder: context.recorder(&client, name), client, finalizer: None };
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, control, sets, ledger: Ledger::default() });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

/// The pods of a set.
struct Seen {
    active: Vec<Arc<Pod>>,
    terminating: usize,
}

impl<K: Replicated> Controller<K> {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let Some(owner) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let set = owner.as_set();
        let uid = set.metadata.uid.clone().unwrap_or_default();
        if self.ledger.is_behind(&uid, &self.context.caches.pods) {
            return Ok(Some(LAG));
        }
        let now = api::now();
        let seen = self.see(&owner, &set, &uid).await?;
        let failure = match set.metadata.deletion_timestamp {
            None => self.change(&owner, &set, &uid, &seen.active, now).await,
            Some(_) => {
                self.ledger.forget(&uid);
                None
            }
        };
        let active: Vec<&Pod> = seen.active.iter().map(AsRef::as_ref).collect();
        let status = plan::status(&set, &active, seen.terminating, failure.as_deref(), now);
        self.report(&owner, status).await?;
        match failure {
            Some(failure) => Err(anyhow::anyhow!(failure)),
            None => Ok(next_check(&set, &active, now)),
        }
    }

    async fn see(&self, owner: &K, set: &ReplicaSet, uid: &str) -> anyhow::Result<Seen> {
        let cache = &self.context.caches.pods;
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let own = claims::pods_of(owner, selector, cache, &self.control).await?;
        let present: HashSet<&str> = own.iter().map(|pod| pods::uid(pod)).collect();
        let deleting = self.ledger.still_deleting(uid, &present);
        let own = own.iter().filter(|pod| !pods::is_terminal(pod));
        let going = |pod: &Pod| pods::is_terminating(pod) || deleting.contains(pods::uid(pod));
        let (terminating, active): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = own.cloned().partition(|pod| going(pod));
        Ok(Seen { active, terminating: terminating.len() })
    }

    /// Creates or deletes pods; why that failed.
    async fn change(
        &self,
        owner: &K,
        set: &ReplicaSet,
        uid: &str,
        active: &[Arc<Pod>],
        now: Timestamp,
    ) -> Option<String> {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let refs: Vec<&Pod> = active.iter().map(AsRef::as_ref).collect();
        let surplus = refs.len() > usize::try_from(wanted).unwrap_or(0);
        let related = if surplus { self.related(set) } else { Vec::new() };
        let related: Vec<&Pod> = related.iter().map(AsRef::as_ref).collect();
        match plan::plan(wanted, &refs, &related, now) {
            Plan::Nothing => None,
            Plan::Create(count) => self.create(owner, set, uid, count).await,
            Plan::Delete(pods) => self.delete(owner, uid, pods).await,
        }
    }

    async fn create(&self, owner: &K, set: &ReplicaSet, uid: &str, count: usize) -> Option<String> {
        let template = set.spec.as_ref()?.template.as_ref()?;
        let (namespace, name) = (set.metadata.namespace.as_deref()?, set.metadata.name.as_deref()?);
        let pod = from_template(template, namespace, name, owner::controller_reference(owner));
        let about = reference(owner);
        let (_, error) = slow_start(count, |_| async {
            let created = self.control.create(&pod, &about).await?;
            created.inspect(|pod| self.ledger.wrote(uid, pod));
            Ok::<_, kube::Error>(())
        })
        .await;
        error.map(|error| said(&error))
    }

    async fn delete(&self, owner: &K, uid: &str, pods: Vec<&Pod>) -> Option<String> {
        let about = reference(owner);
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
        let caches = &self.context.caches;
        let of = |set: &ObjectMeta| {
            let mut pods = caches.pods.list_owned(namespace, set.name.as_deref().unwrap_or_default());
            pods.retain(|pod| owner::is_controlled_by(&pod.metadata, set));
            pods
        };
        let Some(owner) = owner::controller_of(&set.metadata) else { return of(&set.metadata) };
        let sets = caches.replica_sets.list_owned(namespace, &owner.name);
        let sibling = |other: &&Arc<ReplicaSet>| {
            owner::controller_of(&other.metadata).is_some_and(|controller| controller.uid == owner.uid)
        };
        sets.iter().filter(sibling).flat_map(|set| of(&set.metadata)).collect()
    }

    async fn report(&self, owner: &K, status: ReplicaSetStatus) -> anyhow::Result<()> {
        let new = owner.with_status(status);
        if &new == owner {
            return Ok(());
        }
        let (namespace, name) = (owner.meta().namespace.as_deref(), owner.meta().name.as_deref());
        let sets = api::namespaced::<K>(&self.control.client, namespace.unwrap_or_default());
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
