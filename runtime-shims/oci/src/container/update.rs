//! `UpdateContainerResources` and `ReopenContainerLog`: changes of what runs.
//!
//! Must not know: gRPC.

use pintle_bundle::update as merged;
use pintle_cri::v1;
use pintle_cri::v1::ContainerState;

use super::bundle;
use crate::error::{Error, Result};
use crate::plan::{lifecycle, show};
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// Sets new limits, in the running cgroup and in what a start will read.
pub async fn update(shared: &Shared, entry: &Entry<Container>, asked: v1::LinuxContainerResources) -> Result<()> {
    let _turn = entry.turn().await;
    let record = entry.now();
    lifecycle::may_update(&record)?;
    let mut spec = bundle::read(entry)?;
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    merged(&mut resources, &asked, &shared.host)?;
    if record.is(ContainerState::ContainerRunning) {
        let handler = shared.sandboxes.get(&record.sandbox_id)?.now().handler.clone();
        // device rules are no limits, and are never changed
        let mut limits = resources.clone();
        limits.set_devices(None);
        let limits = serde_json::to_vec(&limits).map_err(anyhow::Error::from)?;
        shared.launcher(&handler)?.update(&entry.id, &limits).await?;
    }
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
    bundle::write_json(&entry.dir().join("config.json"), &spec)?;
    entry.change(|record| show::merge_resources(&mut record.config, &asked))?;
    Ok(())
}

/// Goes on in a new file, after a rotation.
pub async fn reopen_log(shared: &Shared, entry: &Entry<Container>) -> Result<()> {
    let record = entry.now();
    lifecycle::must_run(&record)?;
    let monitor = shared.monitors.get(&record.sandbox_id)?;
    monitor.reopen_log(&entry.id).await.map_err(Error::from)
}
