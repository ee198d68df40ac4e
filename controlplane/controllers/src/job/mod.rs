//! The Job controller: runs pods until enough have succeeded.
//!
//! Must not know: CronJobs.

mod failure;
mod indexes;
mod per_index;
mod plan;
mod success;
#[cfg(test)]
mod tests;
pub mod ttl;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use pintle_client::ObjectKey;
use pintle_client::events::reference;
use serde_json::json;

use crate::context::Context;
use crate::ledger::Ledger;
use crate::pod_control::{PodControl, from_template, slow_start};
use crate::work::Outcome;
use crate::{api, claims, owner, pods};
use plan::{FINALIZER, INDEX, Plan};

const NAME: &str = "job-controller";
/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);

struct Controller {
    context: Context,
    control: PodControl,
    /// Pods created and deleted, by the Job's UID.
    pod_writes: Ledger,
    /// Statuses written, by the Job's UID.
    status_writes: Ledger,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.jobs.synced(), caches.pods.synced());
    let queue = context.queue("job");
    context.feed(&caches.jobs, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let jobs = caches.jobs.clone();
    context.feed(&caches.pods, &queue, move |change| {
        owner::concerned(change, &jobs, |job| job.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    });
    let client = context.client(NAME);
    let control = PodControl { recorder: context.recorder(&client, NAME), client, finalizer: Some(FINALIZER) };
    let cancel = context.cancel.clone();
    let (pod_writes, status_writes) = (Ledger::default(), Ledger::default());
    let controller = Arc::new(Controller { context, control, pod_writes, status_writes });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

fn is_managed_elsewhere(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != "kubernetes.io/job-controller")
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        let job = caches.jobs.get(&key.namespace, &key.name);
        self.release_orphans(&key, job.as_deref()).await?;
        let Some(job) = job.filter(|job| !is_managed_elsewhere(job)) else { return Ok(None) };
        let uid = job.metadata.uid.clone().unwrap_or_default();
        if plan::is_finished(job.status.as_ref()) {
            self.pod_writes.forget(&uid);
            self.status_writes.forget(&uid);
            return Ok(None);
        }
        if self.pod_writes.is_behind(&uid, &caches.pods) || self.status_writes.is_behind(&uid, &caches.jobs) {
            return Ok(Some(LAG));
        }
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let own = claims::pods_of(job.as_ref(), selector, &caches.pods, &self.control).await?;
        let present: HashSet<&str> = own.iter().map(|pod| pods::uid(pod)).collect();
        let deleting = self.pod_writes.still_deleting(&uid, &present);
        let refs: Vec<&Pod> = own.iter().map(AsRef::as_ref).collect();
        let plan = plan::plan(&job, &refs, &deleting, api::now());
        self.apply(&job, &uid, plan).await
    }

    /// Pods of a Job that is gone or done need not be counted any more.
    async fn release_orphans(&self, key: &ObjectKey, job: Option<&Job>) -> anyhow::Result<()> {
        let live = job.filter(|job| !plan::is_finished(job.status.as_ref())).and_then(|job| job.metadata.uid.as_ref());
        for pod in self.context.caches.pods.list_owned(&key.namespace, &key.name) {
            let owner = owner::controller_of(&pod.metadata);
            let own =
                owner.is_some_and(|owner| owner.kind == "Job" && owner.name == key.name && Some(&owner.uid) != live);
            if own && plan::has_finalizer(&pod) {
                self.release(&pod).await?;
            }
        }
        Ok(())
    }

    async fn apply(&self, job: &Job, uid: &str, plan: Plan<'_>) -> Outcome {
        let about = reference(job);
        let created = self.create(job, uid, &plan).await;
        for pod in &plan.delete {
            self.control.delete(pod, &about).await.context("deleting a pod")?;
            self.pod_writes.deleted(uid, pods::uid(pod));
        }
        // what could not be created is not active
        let failed = created.as_ref().err().map_or(0, |(done, _)| plan.create.len() - done);
        let mut status = plan.status;
        let fewer = status.active.unwrap_or(0) - i32::try_from(failed).unwrap_or(0);
        status.active = Some(fewer).filter(|active| *active > 0);
        self.report(job, uid, status).await?;
        for pod in &plan.release {
            self.release(pod).await?;
        }
        match created {
            Err((_, error)) => Err(error).context("creating pods"),
            Ok(()) => Ok(plan.again.and_then(|again| Duration::try_from(again).ok())),
        }
    }

    async fn create(&self, job: &Job, uid: &str, plan: &Plan<'_>) -> Result<(), (usize, kube::Error)> {
        let about = reference(job);
        let (done, error) = slow_start(plan.create.len(), |number| {
            let index = plan.create.get(number).copied().flatten();
            let failures = index.and_then(|index| plan.failures.get(&index)).copied();
            let pod = new_pod(job, index, failures.unwrap_or(0));
            let about = &about;
            async move {
                let created = self.control.create(&pod, about).await?;
                created.inspect(|pod| self.pod_writes.wrote(uid, pod));
                Ok::<_, kube::Error>(())
            }
        })
        .await;
        error.map_or(Ok(()), |error| Err((done, error)))
    }

    async fn report(&self, job: &Job, uid: &str, status: JobStatus) -> anyhow::Result<()> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let jobs = api::namespaced::<Job>(&self.control.client, job.metadata.namespace.as_deref().unwrap_or_default());
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let new = Job { status: Some(status), ..job.clone() };
        match jobs.replace_status(name, &PostParams::default(), &new).await {
            Ok(written) => self.status_writes.wrote(uid, &written),
            Err(error) if api::is_not_found(&error) => return Ok(()),
            Err(error) => return Err(error).context("writing the status"),
        }
        self.say(job, &new);
        Ok(())
    }

    /// Reports what has just become true of the Job.
    fn say(&self, old: &Job, new: &Job) {
        let about = reference(new);
        let before = old.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let before: Vec<_> = before.map(|condition| (&condition.type_, &condition.status)).collect();
        let after = new.status.iter().flat_map(|status| status.conditions.iter().flatten());
        for condition in after.filter(|condition| !before.contains(&(&condition.type_, &condition.status))) {
            let (reason, message) =
                (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default());
            match (condition.type_.as_str(), condition.status.as_str()) {
                ("Complete", "True") => self.control.recorder.normal(&about, "Completed", "Job completed"),
                ("Failed", "True") => self.control.recorder.warning(&about, &reason, message),
                ("Suspended", "True") => self.control.recorder.normal(&about, "Suspended", "Job suspended"),
                ("Suspended", "False") => self.control.recorder.normal(&about, "Resumed", "Job resumed"),
                _ => {}
            }
        }
    }

    async fn release(&self, pod: &Pod) -> anyhow::Result<()> {
        let meta = &pod.metadata;
        let left = meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER);
        let left: Vec<&String> = left.collect();
        let patch =
            json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": left}});
        let pods = api::namespaced::<Pod>(&self.control.client, meta.namespace.as_deref().unwrap_or_default());
        let name = meta.name.as_deref().unwrap_or_default();
        let patched = pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        api::ignore_not_found(patched).context("removing a pod's finalizer")
    }
}

/// A pod of the Job; of an indexed one with its index where pods and their containers look for it, and with how often
/// the index has failed where that counts.
fn new_pod(job: &Job, index: Option<i32>, failures: i32) -> Pod {
    let (namespace, name) = (job.metadata.namespace.as_deref(), job.metadata.name.as_deref().unwrap_or_default());
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = from_template(&template, namespace.unwrap_or_default(), name, owner::controller_reference(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let Some(index) = index else { return pod };
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if per_index::limit(job).is_some() {
        annotations.insert(per_index::FAILURES.into(), failures.to_string());
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.labels['{INDEX}']"),
            ..Default::default()
        }),
        ..EnvVarSource::default()
    };
    let variable = EnvVar { name: "JOB_COMPLETION_INDEX".into(), value: None, value_from: Some(source) };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|own| own.name == variable.name) {
            env.push(variable.clone());
        }
    }
    pod
}
