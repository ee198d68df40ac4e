//! Deletes Jobs a while after they finished (`ttlSecondsAfterFinished`).
//!
//! Must not know: how Jobs run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::PropagationPolicy;
use pintle_client::ObjectKey;

use crate::api;
use crate::context::Context;
use crate::work::Outcome;

struct Controller {
    context: Context,
    client: Client,
}

pub async fn run(context: Context) {
    let caches = context.caches.clone();
    caches.jobs.synced().await;
    let queue = context.queue("ttl_jobs_to_delete");
    context.feed(&caches.jobs, &queue, |change| {
        let job = change.object();
        let due = expiry(job).is_some();
        if due { vec![ObjectKey::of(job.as_ref())] } else { Vec::new() }
    });
    let client = context.client("ttl-after-finished-controller");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client });
    queue.run(2, cancel, |key| controller.clone().sync(key)).await;
}

/// When the Job is to be deleted.
fn expiry(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True");
    let finished = ends.next()?.last_transition_time.as_ref()?.0;
    Some(finished + SignedDuration::from_secs(i64::from(ttl)))
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let job = self.context.caches.jobs.get(&key.namespace, &key.name);
        let Some((job, expiry)) = job.and_then(|job| Some((job.clone(), expiry(&job)?))) else { return Ok(None) };
        let left = expiry.duration_since(Timestamp::now());
        if left.is_positive() {
            return Ok(Duration::try_from(left).ok());
        }
        let jobs = api::namespaced::<Job>(&self.client, &key.namespace);
        // the cache may lag: the time to live may just have been made longer
        let Some(fresh) = jobs.get_opt(&key.name).await.context("looking at the Job")? else { return Ok(None) };
        if fresh.metadata.uid == job.metadata.uid
            && self::expiry(&fresh).is_some_and(|expiry| expiry <= Timestamp::now())
        {
            let params = api::delete_uid_with(job.metadata.uid.as_ref(), PropagationPolicy::Foreground);
            api::ignore_not_found(jobs.delete(&key.name, &params).await).context("deleting a finished Job")?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finished_job_expires_after_its_ttl_and_others_never() {
        let job = |ttl: Option<i32>, type_: &str| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [{"type": type_, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        let at: Timestamp = "2026-01-01T00:01:40Z".parse().unwrap();
        assert_eq!(expiry(&job(Some(100), "Complete")), Some(at));
        assert_eq!(expiry(&job(Some(100), "Suspended")), None);
        assert_eq!(expiry(&job(None, "Failed")), None);
    }
}
