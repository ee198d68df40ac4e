//! The metrics of pods: what containerd knows of each, in `pintle_cri::metrics`' words.
//!
//! Must not know: names of metrics.

use std::path::PathBuf;

use pintle_cri::metrics::{self, Cgroup, Reading};
use pintle_cri::v1::{ContainerMetrics, PodSandboxConfig, PodSandboxMetrics};
use tonic::Status;

use crate::Inner;
use crate::client::internal;
use crate::record::{ContainerRecord, SandboxRecord};

impl Inner {
    /// The metrics of every sandbox that is ready and its running containers.
    pub async fn metrics(&self) -> Result<Vec<PodSandboxMetrics>, Status> {
        let mut all = Vec::new();
        for sandbox in self.all::<PodSandboxConfig>().await? {
            if self.sandbox_ready(&sandbox).await? {
                all.push(self.metrics_of(&sandbox).await?);
            }
        }
        Ok(all)
    }

    async fn metrics_of(&self, sandbox: &SandboxRecord) -> Result<PodSandboxMetrics, Status> {
        let links = self.links(sandbox).await?;
        let mut containers = Vec::new();
        for container in self.containers_of(&sandbox.id).await? {
            containers.extend(self.container_metrics(container).await?);
        }
        Ok(metrics::of_sandbox(&sandbox.id, &links, containers))
    }

    /// `None` for one that does not run.
    async fn container_metrics(&self, container: ContainerRecord) -> Result<Option<ContainerMetrics>, Status> {
        let Some(pid) = self.task(&container.id).await?.map(|task| task.pid).filter(|pid| *pid != 0) else {
            return Ok(None);
        };
        let Some(cgroup) = Cgroup::of_process(pid) else { return Ok(None) };
        let layer = self.stats_of(&container).await?.writable_layer;
        let used = layer.and_then(|layer| layer.used_bytes).map_or(0, |used| used.value);
        let upper = self.upper(&container.id).await?;
        let read = move || {
            let reading = Reading::take(&cgroup, pid, &upper, used, container.state.started_at);
            metrics::of_container(&container.id, &container.config, &reading)
        };
        tokio::task::spawn_blocking(read).await.map(Some).map_err(internal)
    }

    /// Where what a container writes lies.
    async fn upper(&self, id: &str) -> Result<PathBuf, Status> {
        let mounts = self.mounts(id).await?;
        let found = mounts.iter().flat_map(|mount| &mount.options).find_map(|option| option.strip_prefix("upperdir="));
        Ok(found.map(PathBuf::from).unwrap_or_default())
    }
}
