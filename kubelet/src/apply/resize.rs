//! Giving running containers and their pod another size.
//!
//! Must not know: why, or in which order.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use pintle_cri::v1::{
    ContainerStatsRequest, LinuxContainerResources, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use tonic::Code;

use super::Drivers;
use crate::plan::resources::{CPU_PERIOD, PodLimits, linux_resources};
use crate::plan::seen::Seen;

impl Drivers {
    /// # Errors
    /// What the runtime says against it.
    pub async fn update_container(&self, pod: &Pod, container: &Container, id: &str) -> Result<(), String> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(linux_resources(pod, container, &self.node)),
            ..UpdateContainerResourcesRequest::default()
        };
        let updated = self.runtime.runtime.clone().update_container_resources(request).await;
        updated.map(drop).map_err(|status| status.message().to_owned())
    }

    /// The runtime may refuse what its sandbox cannot have. Runtimes older than CRI 1.33 are not asked.
    ///
    /// # Errors
    /// It refuses.
    pub async fn tell_sandbox(&self, seen: &Seen, limits: &PodLimits) -> Result<(), String> {
        let Some(sandbox) = seen.ready_sandbox() else { return Ok(()) };
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: sandbox.id.clone(),
            overhead: None,
            resources: Some(LinuxContainerResources {
                cpu_period: CPU_PERIOD,
                cpu_quota: limits.cpu_quota.unwrap_or(0),
                cpu_shares: limits.cpu_shares,
                memory_limit_in_bytes: limits.memory.unwrap_or(0),
                ..LinuxContainerResources::default()
            }),
        };
        match self.runtime.runtime.clone().update_pod_sandbox_resources(request).await {
            Err(status) if status.code() != Code::Unimplemented => {
                Err(format!("failed to notify runtime for UpdatePodSandboxResources; resize rejected: {status}"))
            }
            _ => Ok(()),
        }
    }

    /// A limit below what is used now would have something killed: it waits. `cuts` are new limits in bytes by
    /// container, `whole` the pod's.
    ///
    /// # Errors
    /// Every limit that is too low, or whose use cannot be told.
    pub async fn memory_can_shrink(
        &self,
        seen: &Seen,
        cuts: &BTreeMap<String, i64>,
        whole: Option<i64>,
    ) -> Result<(), String> {
        if cuts.is_empty() && whole.is_none() {
            return Ok(());
        }
        let (mut total, mut problems) = (0, Vec::new());
        for running in seen.running() {
            let used = self.memory_used(&running.id).await;
            total += used.unwrap_or(0);
            let name = &running.name;
            match (cuts.get(name), used) {
                (Some(_), None) => problems.push(format!("missing container {name:?} memory usage")),
                (Some(limit), Some(used)) if used >= *limit => problems.push(format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({used})"
                )),
                _ => {}
            }
        }
        if let Some(limit) = whole.filter(|limit| total >= *limit) {
            let why = format!("attempting to set pod memory limit ({limit}) below current usage ({total})");
            problems.insert(0, why);
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("cannot decrease memory limits: {one}")),
            many => Err(format!("cannot decrease memory limits: [{}]", many.join(", "))),
        }
    }

    /// Bytes.
    async fn memory_used(&self, id: &str) -> Option<i64> {
        let request = ContainerStatsRequest { container_id: id.into() };
        let answer = self.runtime.runtime.clone().container_stats(request).await.ok()?;
        let used = answer.into_inner().stats?.memory?.usage_bytes?.value;
        i64::try_from(used).ok()
    }
}
