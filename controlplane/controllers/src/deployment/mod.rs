//! The Deployment controller: rolls a Deployment's template out through ReplicaSets.
//!
//! Must not know: how ReplicaSets keep their pods.

mod plan;
mod revision;
pub mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Client, Error};
use pintle_client::ObjectKey;
use pintle_client::events::{Recorder, reference};
use serde_json::json;

use crate::context::Context;
use crate::ledger::Ledger;
use crate::owner::{self, Claim};
use crate::pod_control::said;
use crate::work::Outcome;
use crate::{api, pods};
use plan::{Plan, Seen, Step};

const NAME: &str = "deployment-controller";
/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);

struct Controller {
    context: Context,
    client: Client,
    recorder: Recorder,
    ledger: Ledger,
    /// Deployments written, by their UID.
    reports: Ledger,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.deployments.synced(), caches.replica_sets.synced(), caches.pods.synced());
    let queue = context.queue("deployment");
    context.feed(&caches.deployments, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let deployments = caches.deployments.clone();
    context.feed(&caches.replica_sets, &queue, move |change| {
        owner::concerned(change, &deployments, |deployment| deployment.spec.as_ref().map(|spec| &spec.selector))
    });
    // the end of a pod may be what a Deployment with strategy Recreate waits for
    let caches_for_pods = caches.clone();
    context.feed(&caches.pods, &queue, move |change| {
        let pod = change.object();
        let ended = matches!(change, pintle_client::Change::Deleted(_)) || pods::is_terminal(pod);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let set = owner::controller_of(&pod.metadata).filter(|_| ended);
        let set = set.and_then(|owner| caches_for_pods.replica_sets.get(namespace, &owner.name));
        let owner = set.as_ref().and_then(|set| owner::controller_of(&set.metadata));
        owner.map(|owner| ObjectKey::new(namespace, &owner.name)).into_iter().collect()
    });
    let client = context.client(NAME);
    let recorder = context.recorder(&client, NAME);
    let cancel = context.cancel.clone();
    let controller =
        Arc::new(Controller { context, client, recorder, ledger: Ledger::default(), reports: Ledger::default() });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let Some(deployment) = self.context.caches.deployments.get(&key.namespace, &key.name) else { return Ok(None) };
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        let spec = deployment.spec.as_ref();
        if spec.is_none_or(|spec| spec.selector == LabelSelector::default()) {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(&reference(deployment.as_ref()), "SelectingAll", message);
            return Ok(None);
        }
        let caches = &self.context.caches;
        // a status that is not seen yet may count a collision: without it the same name would be tried again
        if self.ledger.is_behind(&uid, &caches.replica_sets) || self.reports.is_behind(&uid, &caches.deployments) {
            return Ok(Some(LAG));
        }
        let sets = self.claim(&deployment, &uid).await?;
        let old_pods_running = self.old_pods_running(&deployment, &sets);
        let plan = plan::plan(Seen { deployment: &deployment, sets, old_pods_running }, api::now());
        self.apply(&deployment, &uid, plan).await
    }

    async fn claim(&self, deployment: &Deployment, uid: &str) -> anyhow::Result<Vec<Arc<ReplicaSet>>> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let selector =
            owner::selector(deployment.spec.as_ref().map(|spec| &spec.selector)).context("no valid selector")?;
        let mut own = Vec::new();
        let (all, name) = (&self.context.caches.replica_sets, deployment.metadata.name.as_deref().unwrap_or_default());
        for set in all.list_owned(namespace, name).into_iter().chain(all.list_owned(namespace, "")) {
            match owner::claim(&deployment.metadata, &selector, &set.metadata) {
                Claim::Keep => own.push(set),
                Claim::Adopt => {
                    self.ensure_alive(deployment).await?;
                    let adopted = self.set_owner(&set, uid, Some(deployment)).await.context("adopting a ReplicaSet")?;
                    own.push(Arc::new(adopted));
                }
                Claim::Release => drop(self.set_owner(&set, uid, None).await.context("releasing a ReplicaSet")?),
                Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    /// Nothing is adopted by what is going away; the cache may not know yet.
    async fn ensure_alive(&self, deployment: &Deployment) -> anyhow::Result<()> {
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let fresh =
            self.deployments(deployment).get(name).await.context("looking whether the Deployment still lives")?;
        let alive = fresh.metadata.uid == deployment.metadata.uid && fresh.metadata.deletion_timestamp.is_none();
        anyhow::ensure!(alive, "the Deployment is being deleted: it adopts nothing");
        Ok(())
    }

    async fn set_owner(&self, set: &ReplicaSet, uid: &str, adopter: Option<&Deployment>) -> Result<ReplicaSet, Error> {
        let references = owner::references_after(&set.metadata, uid, adopter.map(owner::controller_reference));
        let meta = &set.metadata;
        let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version,
            "ownerReferences": references}});
        let sets = api::namespaced::<ReplicaSet>(&self.client, meta.namespace.as_deref().unwrap_or_default());
        sets.patch(meta.name.as_deref().unwrap_or_default(), &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Only what strategy Recreate waits for is looked up.
    fn old_pods_running(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        if !scale::is_recreate(deployment) {
            return false;
        }
        let new = revision::find_new(deployment, sets);
        let old = sets.iter().filter(|set| new.as_ref().is_none_or(|new| new.metadata.uid != set.metadata.uid));
        let old: Vec<&ReplicaSet> = old.map(AsRef::as_ref).collect();
        let (all, namespace) =
            (&self.context.caches.pods, deployment.metadata.namespace.as_deref().unwrap_or_default());
        let runs = |set: &&ReplicaSet| {
            let pods = all.list_owned(namespace, set.metadata.name.as_deref().unwrap_or_default());
            let own = |pod: &Arc<Pod>| owner::is_controlled_by(&pod.metadata, &set.metadata);
            pods.iter().any(|pod| !pods::is_terminal(pod) && own(pod))
        };
        old.iter().any(runs)
    }

    fn deployments(&self, deployment: &Deployment) -> kube::Api<Deployment> {
        api::namespaced(&self.client, deployment.metadata.namespace.as_deref().unwrap_or_default())
    }

    async fn apply(&self, deployment: &Deployment, uid: &str, plan: Plan) -> Outcome {
        for step in plan.steps {
            self.take(deployment, uid, step).await?;
        }
        if &plan.report != deployment {
            self.report(&plan.report).await?;
        }
        Ok(plan.again.and_then(|again| Duration::try_from(again).ok()))
    }

    async fn report(&self, report: &Deployment) -> anyhow::Result<()> {
        let name = report.metadata.name.as_deref().unwrap_or_default();
        let written = self.deployments(report).replace_status(name, &PostParams::default(), report).await;
        match written {
            Ok(written) => self.reports.wrote(report.metadata.uid.as_deref().unwrap_or_default(), &written),
            Err(error) if api::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the status"),
        }
        Ok(())
    }

    async fn take(&self, deployment: &Deployment, uid: &str, step: Step) -> anyhow::Result<()> {
        let sets =
            api::namespaced::<ReplicaSet>(&self.client, deployment.metadata.namespace.as_deref().unwrap_or_default());
        match step {
            Step::Create(set) => self.create(deployment, uid, set).await,
            Step::Update { set, from } => {
                let name = set.metadata.name.clone().unwrap_or_default();
                let written =
                    sets.replace(&name, &PostParams::default(), &set).await.context("changing a ReplicaSet")?;
                self.ledger.wrote(uid, &written);
                self.say_scaled(deployment, &name, from, scale::size(&set));
                Ok(())
            }
            Step::Delete(set) => {
                let name = set.metadata.name.as_deref().unwrap_or_default();
                let deleted = sets.delete(name, &api::delete_uid(set.metadata.uid.as_ref())).await;
                api::ignore_not_found(deleted).context("deleting an old ReplicaSet")
            }
        }
    }

    fn say_scaled(&self, deployment: &Deployment, set: &str, from: i32, to: i32) {
        let direction = match from.cmp(&to) {
            std::cmp::Ordering::Less => "up",
            std::cmp::Ordering::Greater => "down",
            std::cmp::Ordering::Equal => return,
        };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.recorder.normal(&reference(deployment), "ScalingReplicaSet", message);
    }

    async fn create(&self, deployment: &Deployment, uid: &str, set: ReplicaSet) -> anyhow::Result<()> {
        let sets =
            api::namespaced::<ReplicaSet>(&self.client, deployment.metadata.namespace.as_deref().unwrap_or_default());
        let name = set.metadata.name.clone().unwrap_or_default();
        match sets.create(&PostParams::default(), &set).await {
            Ok(created) => {
                self.ledger.wrote(uid, &created);
                self.say_scaled(deployment, &name, 0, scale::size(&created));
                Ok(())
            }
            Err(error) if api::is_already_exists(&error) => self.resolve_collision(deployment, set).await,
            Err(error) if api::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let message = format!("Failed to create new replica set \"{name}\": {}", said(&error));
                self.recorder.warning(&reference(deployment), "ReplicaSetCreateError", message.clone());
                let mut report = deployment.clone();
                let now = api::now();
                status::note_create_error(deployment, report.status.get_or_insert_default(), &message, now);
                self.report(&report).await?;
                Err(error).context("creating a ReplicaSet")
            }
        }
    }

    /// The name is taken: by the set that this is about (the cache lags), or by another template with the same hash.
    async fn resolve_collision(&self, deployment: &Deployment, set: ReplicaSet) -> anyhow::Result<()> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let sets =
            api::namespaced::<ReplicaSet>(&self.client, deployment.metadata.namespace.as_deref().unwrap_or_default());
        let present = sets.get(name).await.context("looking at the ReplicaSet of the same name")?;
        let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let own = owner::is_controlled_by(&present.metadata, &deployment.metadata);
        if own && revision::same_template(&template(&present), &template(&set)) {
            return Ok(());
        }
        let mut report = deployment.clone();
        let status = report.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.report(&report).await?;
        tracing::info!(set = name, "another ReplicaSet has this name: the next one gets another hash");
        // the change of the status brings the Deployment back here
        Ok(())
    }
}
