//! `StopPodSandbox`: its containers end, and what it holds of the host is given back. Once more is no error.
//!
//! Must not know: gRPC.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pintle_cri::v1::ContainerEventType as Event;

use super::{files, pause};
use crate::container;
use crate::drivers::mounts;
use crate::error::Result;
use crate::runtime::Shared;
use crate::state::{Entry, Sandbox};

/// Stops a sandbox, by force what still runs in it.
pub async fn stop(shared: &Arc<Shared>, entry: &Arc<Entry<Sandbox>>) -> Result<()> {
    if !entry.now().stopping {
        // first of all: a start that is under way is waited for below, and a later one is refused
        entry.note(|record| record.stopping = true);
    }
    let containers = shared.containers_of(&entry.id);
    let ended = containers.iter().map(|container| container::stop(shared, container, Duration::ZERO));
    futures::future::try_join_all(ended).await?;
    let _turn = entry.turn().await;
    if entry.now().stopped {
        return Ok(());
    }
    take_down(shared, entry).await?;
    entry.note(|record| record.stopped = true);
    shared.events.of_sandbox(Event::ContainerStoppedEvent, &entry.now(), &shared.containers);
    Ok(())
}

/// Gives back network, namespaces, shared memory and monitor: whatever of them is there.
pub async fn take_down(shared: &Arc<Shared>, entry: &Entry<Sandbox>) -> Result<()> {
    let watchers = async {
        pause::stop(shared, entry).await?;
        stop_monitor(shared, entry).await;
        Ok(())
    };
    // both to their end, whatever becomes of the other
    let (detached, watchers): (Result<()>, Result<()>) = tokio::join!(detach(shared, entry), watchers);
    detached.and(watchers)?;
    let (namespaces, shm) = (shared.namespaces_of(&entry.id), files::shared_memory(shared, &entry.id));
    // each waits for the kernel a little
    let unmounted = tokio::task::spawn_blocking(move || {
        let kinds = ["net", "ipc", "uts", "user", "pid"];
        kinds.iter().try_for_each(|kind| mounts::unmount(&namespaces.join(kind)))?;
        mounts::unmount(&shm)
    });
    Ok(unmounted.await.context("unmounting")??)
}

async fn detach(shared: &Arc<Shared>, entry: &Entry<Sandbox>) -> Result<()> {
    if entry.now().on_network {
        let detached = shared.network.leave(&entry.id).await;
        detached.with_context(|| format!("failed to tear down network for sandbox {:?}", entry.id))?;
        entry.note(|record| record.on_network = false);
    }
    Ok(())
}

async fn stop_monitor(shared: &Arc<Shared>, entry: &Entry<Sandbox>) {
    if let Some(monitor) = shared.monitors.forget(&entry.id) {
        // one that is gone already was asked for nothing
        if let Err(error) = monitor.stop().await {
            tracing::debug!(sandbox = entry.id, "the monitor did not stop: {error}");
        }
    }
}
