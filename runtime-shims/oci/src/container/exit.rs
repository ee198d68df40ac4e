//! The end of a container: written down, told, and what it held of the host given back.
//!
//! Must not know: who saw it.

use std::sync::Arc;

use anyhow::Context as _;
use pintle_cri::v1::{ContainerEventType as Event, ContainerState};

use crate::drivers::mounts::{self, Snapshot};
use crate::plan::lifecycle::End;
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// A container that ran has ended. Told again, nothing happens.
pub async fn exited(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, end: End, at: i64) {
    let _turn = entry.turn().await;
    if entry.now().is(ContainerState::ContainerRunning) {
        settle(shared, entry, end, at).await;
    }
}

/// Writes the end down and cleans up; the caller has the turn.
pub async fn settle(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, end: End, at: i64) {
    // what shares its PID namespace with others may have left processes
    if let Err(error) = kill_rest(shared, entry).await {
        tracing::warn!(container = entry.id, "a container's processes could not all be ended: {error:#}");
    }
    entry.note(|record| {
        record.state = ContainerState::ContainerExited.into();
        record.finished_at = at;
        record.exit_code = end.code;
        record.reason = end.reason.to_owned();
        record.message = end.message;
    });
    let sandbox = shared.sandboxes.get(&entry.now().sandbox_id).ok().map(|sandbox| sandbox.now());
    shared.events.of_container(Event::ContainerStoppedEvent, &entry.id, sandbox.as_deref(), &shared.containers);
    if let Err(error) = give_back(shared, entry).await {
        tracing::warn!(container = entry.id, "what an ended container held could not be given back yet: {error:#}");
    }
}

async fn kill_rest(shared: &Arc<Shared>, entry: &Entry<Container>) -> anyhow::Result<()> {
    let (hierarchies, cgroup) = (shared.hierarchies.clone(), entry.now().cgroup.clone());
    if !hierarchies.has_processes(&cgroup) {
        return Ok(());
    }
    tokio::task::spawn_blocking(move || hierarchies.kill(&cgroup)).await.context("ending processes")?
}

/// The OCI runtime's state, the cgroup, the root's mount. Done again, nothing happens.
pub async fn give_back(shared: &Arc<Shared>, entry: &Entry<Container>) -> anyhow::Result<()> {
    let record = entry.now();
    let handler = shared.sandboxes.get(&record.sandbox_id).map(|sandbox| sandbox.now().handler.clone());
    shared.launcher(&handler.unwrap_or_default())?.delete(&entry.id).await?;
    shared.hierarchies.remove(&record.cgroup)?;
    mounts::unmount(&Snapshot::of(entry.dir()).root)?;
    for index in 0..record.config.mounts.len() {
        if record.config.mounts.get(index).is_some_and(|mount| mount.image.is_some()) {
            mounts::unmount(&Snapshot::of(&entry.dir().join(format!("image-{index}"))).root)?;
        }
    }
    Ok(())
}
