//! The end of a pod: kill within the grace period, the last status, release, removal, and the API's object last.
//!
//! Must not know: how a pod runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::{Next, Update, Worker};
use crate::plan::container_config::TERMINATION_GRACE;
use crate::plan::pod as spec_of;
use crate::plan::sandbox_config::log_directory_name;
use crate::plan::seen::Seen;

impl Worker {
    pub(super) async fn end(&mut self, update: Update, seen: Seen) -> anyhow::Result<Next> {
        let pod = update.pod.as_ref();
        let ip = self.facts(pod, &seen).pod_ips.first().cloned().unwrap_or_default();
        self.probes.reconcile(pod, &seen, &ip, true);
        if !seen.stopped() {
            self.waiting.clear();
            self.report(&update, &seen, false);
            self.stop(&update, &seen).await;
            // what is left shows at the next look
            return Ok(Next::Wait(Duration::ZERO));
        }
        self.report(&update, &seen, true);
        if !self.released {
            self.volumes = crate::volumes::PodVolumes::default();
            self.start.drivers.release_pod(&self.uid).await?;
            self.released = true;
            self.start.neighbours.freed();
        }
        let leaving = update.removed || pod.metadata.deletion_timestamp.is_some();
        if !leaving {
            // finished by itself: its containers stay for their logs until the pod is deleted
            return Ok(Next::Wait(self.start.drivers.config.sync_frequency));
        }
        self.start.drivers.remove_pod(&seen, &self.log_directory(pod)).await?;
        if let Some(target) = update.target.filter(|_| !update.removed) {
            self.start.report.finish(target).await;
        }
        Ok(Next::Done)
    }

    /// Stops everything; a shorter grace period that comes meanwhile takes over.
    async fn stop(&mut self, update: &Update, seen: &Seen) {
        let grace = grace(update, seen);
        let mut updates = self.start.updates.clone();
        updates.mark_unchanged();
        let shorter = |next: &Update| grace_of(next) < grace && next.pod.metadata.deletion_timestamp.is_some();
        tokio::select! {
            () = self.start.drivers.end_pod(&update.pod, seen, grace) => {}
            Ok(_) = updates.wait_for(shorter) => {}
        }
    }

    fn log_directory(&self, pod: &Pod) -> std::path::PathBuf {
        let name = log_directory_name(spec_of::namespace(pod), spec_of::name(pod), &self.uid);
        self.start.drivers.config.pod_logs_dir.join(name)
    }
}

fn grace_of(update: &Update) -> i64 {
    spec_of::grace_seconds(&update.pod)
}

/// The pod's grace period; of a pod nobody knows, the one its containers keep.
fn grace(update: &Update, seen: &Seen) -> i64 {
    let known = update.pod.spec.as_ref().is_some_and(|spec| !spec.containers.is_empty());
    if known {
        return grace_of(update);
    }
    let kept = seen.containers.iter().filter_map(|one| one.annotations.get(TERMINATION_GRACE)?.parse().ok()).max();
    kept.unwrap_or(30)
}
