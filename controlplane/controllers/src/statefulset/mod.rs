//! The StatefulSet controller: pods with lasting names and claims.
//!
//! Not covered: `persistentVolumeClaimRetentionPolicy` other than Retain.
//!
//! Must not know: how claims are bound.

mod plan;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::api::PostParams;
use pintle_client::ObjectKey;
use pintle_client::events::reference;

use crate::context::Context;
use crate::history::Change;
use crate::ledger::Ledger;
use crate::pod_control::{PodControl, said};
use crate::work::Outcome;
use crate::{api, claims, history, owner, pods, revisions};
use plan::{Plan, Seen};

const NAME: &str = "statefulset-controller";
/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);

struct Controller {
    context: Context,
    control: PodControl,
    ledger: Ledger,
}

/// The set's revisions as they shall be.
struct Revisions {
    current: ControllerRevision,
    update: ControllerRevision,
    change: Change,
    all: Vec<Arc<ControllerRevision>>,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(
        caches.stateful_sets.synced(),
        caches.pods.synced(),
        caches.claims.synced(),
        caches.revisions.synced()
    );
    let queue = context.queue("statefulset");
    context.feed(&caches.stateful_sets, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let sets = caches.stateful_sets.clone();
    context.feed(&caches.pods, &queue, move |change| {
        owner::concerned(change, &sets, |set| set.spec.as_ref().map(|spec| &spec.selector))
    });
    let client = context.client(NAME);
    let control = PodControl { recorder: context.recorder(&client, NAME), client, finalizer: None };
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, control, ledger: Ledger::default() });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        let Some(set) = caches.stateful_sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let Some(spec) = set.spec.as_ref().filter(|spec| spec.selector != LabelSelector::default()) else {
            return Ok(None);
        };
        if self.ledger.is_behind(&uid, &caches.pods) {
            return Ok(Some(LAG));
        }
        let mut revisions = self.revisions(&set);
        let change = std::mem::replace(&mut revisions.change, Change::None);
        let written = revisions::write(&self.control.client, change, &set.metadata).await?;
        if matches!(written, revisions::Written::Collision) {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            self.report(&set, status).await?;
            return Ok(Some(Duration::ZERO));
        }
        let own = claims::pods_of(set.as_ref(), Some(&spec.selector), &caches.pods, &self.control).await?;
        let seen = Seen {
            set: &set,
            pods: self.with_deletions(&uid, own),
            current: &revisions.current,
            update: &revisions.update,
            collisions: set.status.as_ref().and_then(|status| status.collision_count),
            now: api::now(),
        };
        let plan = plan::plan(&seen);
        self.apply(&set, &uid, &revisions, &plan).await?;
        self.report(&set, plan.status).await?;
        self.clean_up(&set, &revisions, &seen.pods).await?;
        Ok(next_check(&seen))
    }

    /// Pods deleted a moment ago count as terminating, whatever the cache shows.
    fn with_deletions(&self, uid: &str, own: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        let present: HashSet<&str> = own.iter().map(|pod| pods::uid(pod)).collect();
        let deleting = self.ledger.still_deleting(uid, &present);
        let mark = |pod: Arc<Pod>| {
            if !deleting.contains(pods::uid(&pod)) || pods::is_terminating(&pod) {
                return pod;
            }
            let mut going = pod.as_ref().clone();
            going.metadata.deletion_timestamp = Some(Time(api::now()));
            Arc::new(going)
        };
        own.into_iter().map(mark).collect()
    }

    fn revisions(&self, set: &StatefulSet) -> Revisions {
        let all = revisions::of(&self.context.caches.revisions, &set.metadata);
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let status = set.status.as_ref();
        let collisions = status.and_then(|status| status.collision_count);
        let reference = owner::controller_reference(set);
        let (update, change) = history::current(&template, &set.metadata, reference, &all, collisions);
        let name = status.and_then(|status| status.current_revision.as_ref());
        let current = all.iter().find(|revision| name.is_some() && revision.metadata.name.as_ref() == name);
        let current = current.map_or_else(|| update.clone(), |revision| revision.as_ref().clone());
        Revisions { current, update, change, all }
    }

    async fn apply(&self, set: &StatefulSet, uid: &str, revisions: &Revisions, plan: &Plan) -> anyhow::Result<()> {
        for ordinal in &plan.pending {
            self.create_claims(set, *ordinal).await?;
        }
        for (ordinal, update) in &plan.create {
            let revision = if *update { &revisions.update } else { &revisions.current };
            self.create(set, uid, revision, *ordinal).await?;
        }
        for pod in &plan.delete {
            self.delete(set, uid, pod).await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        set: &StatefulSet,
        uid: &str,
        revision: &ControllerRevision,
        ordinal: i32,
    ) -> anyhow::Result<()> {
        self.create_claims(set, ordinal).await?;
        let template = history::template_of(revision).context("a revision without a template")?;
        let name = revision.metadata.name.as_deref().unwrap_or_default();
        let pod = pod::new(set, &template, name, ordinal);
        let pods = api::namespaced::<Pod>(&self.control.client, set.metadata.namespace.as_deref().unwrap_or_default());
        let (about, what) = (reference(set), said_about(set, "Pod", pods::name(&pod)));
        match pods.create(&PostParams::default(), &pod).await {
            Ok(created) => {
                self.ledger.wrote(uid, &created);
                self.control.recorder.normal(&about, "SuccessfulCreate", format!("create {what} successful"));
                Ok(())
            }
            Err(error) if api::is_namespace_terminating(&error) || api::is_already_exists(&error) => Ok(()),
            Err(error) => {
                let message = format!("create {what} failed error: {}", said(&error));
                self.control.recorder.warning(&about, "FailedCreate", message);
                Err(error).context("creating a pod")
            }
        }
    }

    async fn create_claims(&self, set: &StatefulSet, ordinal: i32) -> anyhow::Result<()> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let claims = api::namespaced::<PersistentVolumeClaim>(&self.control.client, namespace);
        for (_, claim) in pod::claims(set, ordinal) {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            if self.context.caches.claims.get(namespace, name).is_some() {
                continue;
            }
            match claims.create(&PostParams::default(), &claim).await {
                Err(error) if api::is_already_exists(&error) || api::is_namespace_terminating(&error) => {}
                created => {
                    created.context("creating a claim")?;
                    let pod = pod::name(set, ordinal);
                    let parent = set.metadata.name.as_deref().unwrap_or_default();
                    let message = format!("create Claim {name} Pod {pod} in StatefulSet {parent} success");
                    self.control.recorder.normal(&reference(set), "SuccessfulCreate", message);
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &StatefulSet, uid: &str, pod: &Pod) -> anyhow::Result<()> {
        let pods = api::namespaced::<Pod>(&self.control.client, pod.metadata.namespace.as_deref().unwrap_or_default());
        let params = api::delete_uid(pod.metadata.uid.as_ref());
        api::ignore_not_found(pods.delete(pods::name(pod), &params).await).context("deleting a pod")?;
        self.ledger.deleted(uid, pods::uid(pod));
        let what = said_about(set, "Pod", pods::name(pod));
        self.control.recorder.normal(&reference(set), "SuccessfulDelete", format!("delete {what} successful"));
        Ok(())
    }

    async fn report(&self, set: &StatefulSet, status: StatefulSetStatus) -> anyhow::Result<()> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let (namespace, name) = (set.metadata.namespace.as_deref(), set.metadata.name.as_deref());
        let sets = api::namespaced::<StatefulSet>(&self.control.client, namespace.unwrap_or_default());
        let new = StatefulSet { status: Some(status), ..set.clone() };
        let written = sets.replace_status(name.unwrap_or_default(), &PostParams::default(), &new).await;
        api::ignore_not_found(written).context("writing the status")
    }

    /// Deletes revisions over the limit that no pod has.
    async fn clean_up(&self, set: &StatefulSet, revisions: &Revisions, live: &[Arc<Pod>]) -> anyhow::Result<()> {
        let labels = live.iter().filter_map(|pod| pod.metadata.labels.as_ref()?.get(history::HASH));
        let own = [&revisions.current, &revisions.update].into_iter().filter_map(|one| one.metadata.name.as_ref());
        let used: HashSet<&String> = labels.chain(own).collect();
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let in_use =
            |revision: &ControllerRevision| revision.metadata.name.as_ref().is_some_and(|name| used.contains(name));
        revisions::delete(&self.control.client, history::surplus(&revisions.all, limit, in_use)).await
    }
}

fn said_about(set: &StatefulSet, kind: &str, name: &str) -> String {
    format!("{kind} {name} in StatefulSet {}", set.metadata.name.as_deref().unwrap_or_default())
}

/// When the next ready pod becomes available.
fn next_check(seen: &Seen<'_>) -> Option<Duration> {
    let min_ready = seen.set.spec.as_ref()?.min_ready_seconds.filter(|seconds| *seconds > 0)?;
    let waits = seen.pods.iter().filter(|pod| pods::is_ready(pod));
    let waits = waits.filter_map(|pod| pods::available_in(pod, min_ready, seen.now)).filter(|wait| wait.is_positive());
    waits.min().and_then(|wait| Duration::try_from(wait).ok()).map(|wait| wait + Duration::from_millis(100))
}
