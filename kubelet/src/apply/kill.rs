//! Ending containers and pods: preStop hook, then stop, within the grace period.
//!
//! Must not know: why they end.

use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use pintle_cri::v1::{StopContainerRequest, StopPodSandboxRequest};

use super::{Drivers, container_reference};
use crate::plan::container_config::PRE_STOP;
use crate::plan::pod::{self, Kind};
use crate::plan::seen::{self, Sandbox, Seen};

/// What remains for a container after its hook used up the grace period; upstream's minimum, seconds.
const LEAST_GRACE: i64 = 2;

impl Drivers {
    /// Ends one container. `grace` in seconds; 0 ends it at once without its hook.
    pub async fn kill_container(
        &self,
        pod: &Pod,
        container: &seen::Container,
        grace: i64,
        message: Option<&str>,
        host: &str,
    ) {
        let spec = pod.spec.as_ref().and_then(|spec| pod::find_container(spec, &container.name));
        let kind = spec.as_ref().map_or(Kind::Regular, |(kind, _)| *kind);
        let regarding = container_reference(pod, kind, &container.name);
        let text = message.map_or_else(|| format!("Stopping container {}", container.name), str::to_string);
        self.recorder.normal(&regarding, "Killing", text);
        let mut left = grace;
        if let (true, Some(hook)) = (grace > 0, pre_stop(container, spec.as_ref().map(|(_, container)| container))) {
            let began = Instant::now();
            let of = spec
                .map(|(_, container)| container)
                .unwrap_or_else(|| Container { name: container.name.clone(), ..Container::default() });
            let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
            if let Err(error) = self.run_hook(&hook, &of, &container.id, host, Some(limit)).await {
                self.recorder.warning(&regarding, "FailedPreStopHook", "PreStopHook failed");
                tracing::warn!(pod = pod::display(pod), container = container.name, "preStop hook: {error}");
            }
            left = grace.saturating_sub(i64::try_from(began.elapsed().as_secs()).unwrap_or(grace)).max(LEAST_GRACE);
        }
        self.stop_container(&container.id, left).await;
    }

    /// Asks the runtime to stop a container. A failure is left to the next look.
    pub async fn stop_container(&self, id: &str, grace: i64) {
        let mut request = tonic::Request::new(StopContainerRequest { container_id: id.into(), timeout: grace });
        // the call lasts as long as the grace period, and then some
        request.set_timeout(Duration::from_secs(u64::try_from(grace).unwrap_or(0) + 120));
        if let Err(status) = self.runtime.runtime.clone().stop_container(request).await {
            tracing::warn!(container = id, "stopping a container: {}", status.message());
        }
    }

    /// Ends every running container, sidecars after the rest and in reverse order, then stops the sandboxes.
    pub async fn end_pod(&self, pod: &Pod, seen: &Seen, grace: i64) {
        let host = seen.ready_sandbox().and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default();
        let sidecars = sidecars_last_first(pod);
        let began = Instant::now();
        let (late, first): (Vec<_>, Vec<_>) = seen.running().partition(|one| sidecars.contains(&one.name.as_str()));
        join_all(first.into_iter().map(|one| self.kill_container(pod, one, grace, None, &host))).await;
        for name in sidecars {
            let used = i64::try_from(began.elapsed().as_secs()).unwrap_or(grace);
            let left = if grace == 0 { 0 } else { (grace - used).max(LEAST_GRACE) };
            for one in late.iter().filter(|one| one.name == name) {
                self.kill_container(pod, one, left, None, &host).await;
            }
        }
        self.stop_sandboxes(seen.sandboxes.iter()).await;
    }

    async fn stop_sandboxes(&self, sandboxes: impl Iterator<Item = &Sandbox>) {
        for sandbox in sandboxes.filter(|sandbox| sandbox.ready) {
            let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(status) = self.runtime.runtime.clone().stop_pod_sandbox(request).await {
                tracing::warn!(sandbox = sandbox.id, "stopping a sandbox: {}", status.message());
            }
        }
    }
}

fn sidecars_last_first(pod: &Pod) -> Vec<&str> {
    let init = pod.spec.as_ref().map(pod::init_containers).unwrap_or_default();
    init.iter().rev().filter(|one| pod::is_sidecar(one)).map(|one| one.name.as_str()).collect()
}

/// The hook of the spec; of a container whose pod is unknown, the one its annotation keeps.
fn pre_stop(container: &seen::Container, spec: Option<&Container>) -> Option<LifecycleHandler> {
    match spec {
        Some(spec) => spec.lifecycle.as_ref()?.pre_stop.clone(),
        None => serde_json::from_str(container.annotations.get(PRE_STOP)?).ok(),
    }
}
