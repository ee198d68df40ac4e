//! Telling the API: pods' statuses, coalesced per pod, and the last word of pods that ended.
//!
//! Must not know: how a status was made.

pub mod patch;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use pintle_client::error::chain;
use pintle_daemon::backoff::Backoff;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Requests of this kind at the same time, for the whole node.
const PARALLEL: usize = 16;

/// The object whose status is written: for a static pod, its mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone)]
struct Wanted {
    target: Target,
    /// What the API had when this status was made.
    base: PodStatus,
    status: PodStatus,
}

/// Reports of the whole node share their limit.
#[derive(Clone)]
pub struct Reports {
    client: Client,
    slots: Arc<Semaphore>,
    cancel: CancellationToken,
}

/// One pod's way to the API. The newest status replaces one that is not written yet.
pub struct Report {
    wanted: watch::Sender<Option<Wanted>>,
    reports: Reports,
    idle: watch::Sender<bool>,
}

impl Reports {
    pub fn new(client: Client, cancel: CancellationToken) -> Self {
        Self { client, slots: Arc::new(Semaphore::new(PARALLEL)), cancel }
    }

    /// A report for one pod, with its task.
    pub fn pod(&self) -> Report {
        let (wanted, receiver) = watch::channel(None);
        let idle = watch::Sender::new(true);
        let (reports, cancel, when_idle) = (self.clone(), self.cancel.clone(), idle.clone());
        tokio::spawn(async move { cancel.run_until_cancelled(reports.write(receiver, when_idle)).await });
        Report { wanted, reports: self.clone(), idle }
    }

    fn api(&self, target: &Target) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &target.namespace)
    }

    /// Writes each new status until its sender is gone.
    async fn write(&self, mut wanted: watch::Receiver<Option<Wanted>>, idle: watch::Sender<bool>) {
        // what the API answered last; newer than what a worker saw when it made its status
        let mut written: Option<(Target, PodStatus)> = None;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let next = wanted.borrow_and_update().clone();
            if let Some(next) = next {
                let base = match &written {
                    Some((target, status)) if *target == next.target => status.clone(),
                    _ => next.base.clone(),
                };
                match self.one(&next, &base).await {
                    Ok(status) => {
                        written = Some((next.target, status));
                        backoff.reset();
                    }
                    Err(error) if is_gone(&error) => written = None,
                    Err(error) => {
                        tracing::warn!(pod = next.target.name, "writing the pod's status: {}", chain(&error));
                        tokio::time::sleep(backoff.next_delay()).await;
                        wanted.mark_changed();
                        written = None;
                    }
                }
            }
            if !wanted.has_changed().unwrap_or(false) {
                idle.send_replace(true);
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    async fn one(&self, wanted: &Wanted, base: &PodStatus) -> kube::Result<PodStatus> {
        let Some(patch) = patch::status_patch(&wanted.target.uid, base, &wanted.status) else {
            return Ok(base.clone());
        };
        // the semaphore is never closed
        let _slot = self.slots.acquire().await;
        let answer = self
            .api(&wanted.target)
            .patch_status(&wanted.target.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// Deletes the object for good, if it is still the same one.
    async fn delete(&self, target: &Target) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let preconditions = Preconditions { uid: Some(target.uid.clone()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        loop {
            let _slot = self.slots.acquire().await;
            match self.api(target).delete(&target.name, &params).await {
                Ok(_) => return,
                Err(error) if is_gone(&error) => return,
                Err(error) => tracing::warn!(pod = target.name, "deleting the pod: {}", chain(&error)),
            }
            drop(_slot);
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

/// The object is not there any more, or it is another one of that name.
fn is_gone(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    match status.code {
        404 => true,
        409 => status.message.contains("UID"),
        // how a patch of an object with another UID is refused
        422 => status.message.contains("metadata.uid"),
        _ => false,
    }
}

impl Report {
    /// Has `status` written; `base` is what the API has, as far as the caller knows.
    pub fn status(&self, target: Target, base: PodStatus, status: PodStatus) {
        self.idle.send_replace(false);
        self.wanted.send_replace(Some(Wanted { target, base, status }));
    }

    /// After the last status is written, deletes the object.
    pub async fn finish(&self, target: Target) {
        let mut idle = self.idle.subscribe();
        // a status that cannot be written does not keep a pod that ended
        let _ = tokio::time::timeout(Duration::from_secs(5), idle.wait_for(|idle| *idle)).await;
        self.reports.delete(&target).await;
    }
}
