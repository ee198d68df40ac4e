//! The CronJob controller: starts Jobs by schedule.
//!
//! Must not know: how Jobs run.

mod plan;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::Client;
use kube::api::{PostParams, PropagationPolicy};
use pintle_client::ObjectKey;
use pintle_client::events::{Recorder, reference};

use crate::context::Context;
use crate::ledger::Ledger;
use crate::pod_control::said;
use crate::work::Outcome;
use crate::{api, owner};
use plan::Plan;

const NAME: &str = "cronjob-controller";
/// Looks again this soon after the caches were found to lag; usually their next event comes first.
const LAG: Duration = Duration::from_secs(1);
/// Timers fire a little late rather than a little early.
const SLACK: Duration = Duration::from_millis(100);

struct Controller {
    context: Context,
    client: Client,
    recorder: Recorder,
    /// Jobs created, by the CronJob's UID.
    jobs: Ledger,
    /// Statuses written, by the CronJob's UID.
    statuses: Ledger,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.cron_jobs.synced(), caches.jobs.synced());
    let queue = context.queue("cronjob");
    context.feed(&caches.cron_jobs, &queue, |change| vec![ObjectKey::of(change.object().as_ref())]);
    let crons = caches.cron_jobs.clone();
    context.feed(&caches.jobs, &queue, move |change| owner::concerned(change, &crons, |_| None));
    let client = context.client(NAME);
    let recorder = context.recorder(&client, NAME);
    let cancel = context.cancel.clone();
    let controller =
        Arc::new(Controller { context, client, recorder, jobs: Ledger::default(), statuses: Ledger::default() });
    queue.run(5, cancel, |key| controller.clone().sync(key)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        let Some(cron) = caches.cron_jobs.get(&key.namespace, &key.name) else { return Ok(None) };
        let uid = cron.metadata.uid.clone().unwrap_or_default();
        if self.jobs.is_behind(&uid, &caches.jobs) || self.statuses.is_behind(&uid, &caches.cron_jobs) {
            return Ok(Some(LAG));
        }
        let mut own = caches.jobs.list_owned(&key.namespace, &key.name);
        own.retain(|job| owner::is_controlled_by(&job.metadata, &cron.metadata));
        let plan = plan::plan(&cron, &own, api::now());
        let again = plan.again.and_then(|again| Duration::try_from(again).ok()).map(|again| again + SLACK);
        self.apply(&cron, &uid, plan).await?;
        Ok(again)
    }

    async fn apply(&self, cron: &CronJob, uid: &str, plan: Plan) -> anyhow::Result<()> {
        let about = reference(cron);
        for (warning, reason, message) in plan.notes {
            if warning {
                self.recorder.warning(&about, reason, message);
            } else {
                self.recorder.normal(&about, reason, message);
            }
        }
        let jobs = api::namespaced::<Job>(&self.client, cron.metadata.namespace.as_deref().unwrap_or_default());
        for job in plan.delete {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let params = api::delete_uid_with(job.metadata.uid.as_ref(), PropagationPolicy::Background);
            api::ignore_not_found(jobs.delete(name, &params).await).context("deleting a Job")?;
            self.recorder.normal(&about, "SuccessfulDelete", format!("Deleted job {name}"));
        }
        let mut status = plan.status;
        if let Some(job) = plan.start
            && let Some(started) = self.start(cron, &job).await?
        {
            self.jobs.wrote(uid, &started);
            status.active.get_or_insert_default().push(plan::active_reference(&started));
        }
        self.report(cron, uid, status).await
    }

    /// None: the namespace is going away.
    async fn start(&self, cron: &CronJob, job: &Job) -> anyhow::Result<Option<Job>> {
        let jobs = api::namespaced::<Job>(&self.client, cron.metadata.namespace.as_deref().unwrap_or_default());
        let name = job.metadata.name.as_deref().unwrap_or_default();
        match jobs.create(&PostParams::default(), job).await {
            Ok(created) => {
                self.recorder.normal(&reference(cron), "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(created))
            }
            Err(error) if api::is_namespace_terminating(&error) => Ok(None),
            Err(error) if api::is_already_exists(&error) => {
                let present = jobs.get(name).await.context("looking at the Job of the same name")?;
                Ok(owner::is_controlled_by(&present.metadata, &cron.metadata).then_some(present))
            }
            Err(error) => {
                let message = format!("Error creating job: {}", said(&error));
                self.recorder.warning(&reference(cron), "FailedCreate", message);
                Err(error).context("creating a Job")
            }
        }
    }

    async fn report(&self, cron: &CronJob, uid: &str, status: CronJobStatus) -> anyhow::Result<()> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let (namespace, name) = (cron.metadata.namespace.as_deref(), cron.metadata.name.as_deref());
        let crons = api::namespaced::<CronJob>(&self.client, namespace.unwrap_or_default());
        let new = CronJob { status: Some(status), ..cron.clone() };
        match crons.replace_status(name.unwrap_or_default(), &PostParams::default(), &new).await {
            Err(error) if api::is_not_found(&error) => Ok(()),
            written => {
                self.statuses.wrote(uid, &written.context("writing the status")?);
                Ok(())
            }
        }
    }
}
