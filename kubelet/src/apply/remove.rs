//! Removing what has ended: containers with their logs, sandboxes, a pod's directories.
//!
//! Must not know: which of them are kept.

use std::path::Path;

use anyhow::Context as _;
use pintle_cri::v1::{RemoveContainerRequest, RemovePodSandboxRequest};
use tonic::Code;

use super::Drivers;
use crate::plan::seen::{Container, Sandbox, Seen};
use crate::volumes;

impl Drivers {
    /// Removes a dead container and its log.
    ///
    /// # Errors
    /// The runtime refuses.
    pub async fn remove_container(&self, container: &Container) -> anyhow::Result<()> {
        let request = RemoveContainerRequest { container_id: container.id.clone() };
        match self.runtime.runtime.clone().remove_container(request).await {
            Err(status) if status.code() != Code::NotFound => {
                return Err(status).with_context(|| format!("removing container {}", container.id));
            }
            _ => {}
        }
        self.remove_logs(container);
        Ok(())
    }

    /// The log, its rotated files and its older name.
    fn remove_logs(&self, container: &Container) {
        let log = Path::new(&container.log_path);
        let Some((dir, name)) = log.parent().zip(log.file_name().and_then(|name| name.to_str())) else { return };
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(name) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let suffix = format!("-{}.log", container.id);
        for entry in std::fs::read_dir(&self.config.container_logs_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(&suffix) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Removes a stopped sandbox.
    ///
    /// # Errors
    /// The runtime refuses.
    pub async fn remove_sandbox(&self, sandbox: &Sandbox) -> anyhow::Result<()> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        match self.runtime.runtime.clone().remove_pod_sandbox(request).await {
            Err(status) if status.code() != Code::NotFound => {
                Err(status).with_context(|| format!("removing sandbox {}", sandbox.id))
            }
            _ => Ok(()),
        }
    }

    /// Takes away what a stopped pod holds beside its containers: its cgroup, mounts, files. Its folder goes last: by it
    /// the next kubelet knows that something may be left.
    ///
    /// # Errors
    /// Something is still in use.
    pub async fn release_pod(&self, uid: &str) -> anyhow::Result<()> {
        self.images.forget(uid);
        self.volumes.forget(uid);
        if let Err(error) = self.cgroups.remove(uid) {
            tracing::info!(uid, "the pod's cgroup stays until the next start: {error:#}");
        }
        let dir = self.config.pod_dir(uid);
        let gone = tokio::task::spawn_blocking(move || volumes::tear_down(&dir)).await;
        gone.context("taking the pod's volumes away")??;
        self.users.forget(uid);
        Ok(())
    }

    /// Removes everything of a pod that is gone from its source: containers, sandboxes, logs.
    ///
    /// # Errors
    /// The runtime refuses: the rest is still there.
    pub async fn remove_pod(&self, seen: &Seen, log_directory: &Path) -> anyhow::Result<()> {
        for container in &seen.containers {
            self.remove_container(container).await?;
        }
        for sandbox in &seen.sandboxes {
            self.remove_sandbox(sandbox).await?;
        }
        match std::fs::remove_dir_all(log_directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", log_directory.display()))
            }
            _ => Ok(()),
        }
    }
}
