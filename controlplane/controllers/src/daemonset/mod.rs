//! The DaemonSet controller: one pod on every node that fits.
//!
//! Must not know: how pods get onto nodes (the scheduler binds them).

mod plan;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::PostParams;
use parking_lot::Mutex;
use pintle_client::events::reference;
use pintle_client::{Change, ObjectKey};

use crate::context::Context;
use crate::ledger::Ledger;
use crate::pod_control::{PodControl, slow_start};
use crate::work::Outcome;
use crate::{api, claims, history, owner, pods, revisions};
use plan::{Plan, Seen};

const NAME: &str = "daemon-set-controller";
/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);
/// Pods created in one sync.
const BURST: usize = 250;
/// Bounds of the delay before a failed pod is replaced once more.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(900);

struct Controller {
    context: Context,
    control: PodControl,
    ledger: Ledger,
    /// By set UID and node: when the last failed pod was replaced, and how long the next has to wait.
    replaced: Mutex<HashMap<(String, String), (Instant, Duration)>>,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.daemon_sets.synced(), caches.pods.synced(), caches.nodes.synced(), caches.revisions.synced());
    let queue = context.queue("daemonset");
    context.feed(&caches.daemon_sets, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let sets = caches.daemon_sets.clone();
    context.feed(&caches.pods, &queue, move |change| {
        owner::concerned(change, &sets, |set| set.spec.as_ref().map(|spec| &spec.selector))
    });
    let sets = caches.daemon_sets.clone();
    context.feed(&caches.nodes, &queue, move |change| {
        let relevant = match change {
            Change::Modified { old, new } => {
                old.metadata.labels != new.metadata.labels
                    || old.spec.as_ref().map(|spec| &spec.taints) != new.spec.as_ref().map(|spec| &spec.taints)
            }
            _ => true,
        };
        if relevant { sets.list().iter().map(|set| ObjectKey::of(set.as_ref())).collect() } else { Vec::new() }
    });
    let client = context.client(NAME);
    let control = PodControl { recorder: context.recorder(&client, "daemonset-controller"), client, finalizer: None };
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, control, ledger: Ledger::default(), replaced: Mutex::default() });
    queue.run(2, cancel, |key| controller.clone().sync(key)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        let Some(set) = caches.daemon_sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let Some(spec) = set.spec.as_ref().filter(|spec| spec.selector != LabelSelector::default()) else {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder.warning(&reference(set.as_ref()), "SelectingAll", message);
            return Ok(None);
        };
        if set.metadata.deletion_timestamp.is_some() {
            self.forget(&uid);
            return Ok(None);
        }
        if self.ledger.is_behind(&uid, &caches.pods) {
            return Ok(Some(LAG));
        }
        let Some(hash) = self.sync_revision(&set).await? else { return Ok(Some(Duration::ZERO)) };
        let own = claims::pods_of(set.as_ref(), Some(&spec.selector), &caches.pods, &self.control).await?;
        let present: HashSet<&str> = own.iter().map(|pod| pods::uid(pod)).collect();
        let deleting = self.ledger.still_deleting(&uid, &present);
        let live: Vec<Arc<Pod>> = own.iter().filter(|pod| !deleting.contains(pods::uid(pod))).cloned().collect();
        let nodes = caches.nodes.list();
        let seen = Seen { set: &set, nodes: &nodes, pods: &live, hash: &hash, now: api::now() };
        let applied = self.apply(&set, &uid, &hash, plan::plan(&seen)).await;
        self.report(&set, plan::status(&seen)).await?;
        let again = applied?;
        self.clean_up(&set, &hash, &live).await?;
        Ok(again.or_else(|| next_check(&seen)))
    }

    fn forget(&self, uid: &str) {
        self.ledger.forget(uid);
        self.replaced.lock().retain(|(set, _), _| set != uid);
    }

    /// The hash of the template's revision. None: it collided with another, and the set was told so.
    async fn sync_revision(&self, set: &DaemonSet) -> anyhow::Result<Option<String>> {
        let all = revisions::of(&self.context.caches.revisions, &set.metadata);
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let reference = owner::controller_reference(set);
        let (revision, change) = history::current(&template, &set.metadata, reference, &all, collisions);
        match revisions::write(&self.control.client, change, &set.metadata).await? {
            revisions::Written::Done => Ok(Some(history::hash_of(&revision).to_owned())),
            revisions::Written::Collision => {
                let status = set.status.clone().unwrap_or_default();
                let collisions = Some(collisions.unwrap_or(0) + 1);
                self.report(set, DaemonSetStatus { collision_count: collisions, ..status }).await?;
                Ok(None)
            }
        }
    }

    async fn apply(&self, set: &DaemonSet, uid: &str, hash: &str, plan: Plan) -> Outcome {
        let about = reference(set);
        let mut again = None;
        let mut delete = plan.delete;
        for (node, pod) in plan.replace {
            match self.wait(uid, &node) {
                Some(wait) => again = again.into_iter().chain([wait]).min(),
                None => {
                    self.say_replacing(set, &node, &pod);
                    delete.push(pod);
                }
            }
        }
        let create: Vec<&String> = plan.create.iter().take(BURST).collect();
        let (_, error) = slow_start(create.len(), |number| {
            let pod = create.get(number).and_then(|node| pod::new(set, node, hash));
            let about = &about;
            async move {
                let Some(pod) = pod else { return Ok(()) };
                self.control.create(&pod, about).await?.inspect(|pod| self.ledger.wrote(uid, pod));
                Ok::<_, kube::Error>(())
            }
        })
        .await;
        for pod in delete {
            self.control.delete(&pod, &about).await.context("deleting a pod")?;
            self.ledger.deleted(uid, pods::uid(&pod));
        }
        error.map_or(Ok(again), |error| Err(error).context("creating pods"))
    }

    /// How long a failed pod on that node has yet to stay; the next one stays twice as long.
    fn wait(&self, uid: &str, node: &str) -> Option<Duration> {
        let mut replaced = self.replaced.lock();
        let now = Instant::now();
        if replaced.len() > 1000 {
            replaced.retain(|_, (last, _)| now.duration_since(*last) <= LAST_DELAY * 2);
        }
        let entry = replaced.entry((uid.to_owned(), node.to_owned()));
        let (last, delay) = entry.or_insert((now, Duration::ZERO));
        // quiet for long enough: it starts over
        if now.duration_since(*last) > LAST_DELAY * 2 {
            *delay = Duration::ZERO;
        }
        let left = delay.checked_sub(now.duration_since(*last)).filter(|left| !left.is_zero());
        if left.is_none() {
            (*last, *delay) = (now, (*delay * 2).clamp(FIRST_DELAY, LAST_DELAY));
        }
        left
    }

    fn say_replacing(&self, set: &DaemonSet, node: &str, pod: &Pod) {
        let (about, key) = (reference(set), ObjectKey::of(pod));
        if pods::phase(pod) == "Failed" {
            let message = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
            self.control.recorder.warning(&about, "FailedDaemonPod", message);
        } else {
            let message = format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
            self.control.recorder.normal(&about, "SucceededDaemonPod", message);
        }
    }

    async fn report(&self, set: &DaemonSet, status: DaemonSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let (namespace, name) = (set.metadata.namespace.as_deref(), set.metadata.name.as_deref());
        let sets = api::namespaced::<DaemonSet>(&self.control.client, namespace.unwrap_or_default());
        let new = DaemonSet { status: Some(status), ..set.clone() };
        let written = sets.replace_status(name.unwrap_or_default(), &PostParams::default(), &new).await;
        api::ignore_not_found(written).context("writing the status")
    }

    /// Deletes revisions over the limit that no pod has.
    async fn clean_up(&self, set: &DaemonSet, hash: &str, live: &[Arc<Pod>]) -> anyhow::Result<()> {
        let all = revisions::of(&self.context.caches.revisions, &set.metadata);
        let labels = live.iter().filter_map(|pod| pod.metadata.labels.as_ref()?.get(history::HASH));
        let used: HashSet<&str> = labels.map(String::as_str).chain([hash]).collect();
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let surplus = history::surplus(&all, limit, |revision| used.contains(history::hash_of(revision)));
        revisions::delete(&self.control.client, surplus).await
    }
}

/// When the next ready pod becomes available.
fn next_check(seen: &Seen<'_>) -> Option<Duration> {
    let min_ready = seen.set.spec.as_ref()?.min_ready_seconds.filter(|seconds| *seconds > 0)?;
    let waits = seen.pods.iter().filter(|pod| pods::is_ready(pod));
    let waits = waits.filter_map(|pod| pods::available_in(pod, min_ready, seen.now)).filter(|wait| wait.is_positive());
    waits.min().and_then(|wait| Duration::try_from(wait).ok()).map(|wait| wait + Duration::from_millis(100))
}
