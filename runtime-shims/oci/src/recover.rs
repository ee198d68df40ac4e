//! The start after an end of any kind: every sandbox and container is accounted for, what was half made is removed.
//!
//! Must not know: calls.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pintle_cri::v1::ContainerState;

use crate::container;
use crate::drivers::mounts;
use crate::error::Result;
use crate::runtime::Shared;
use crate::sandbox::{self, watch};
use crate::state::{Container, Entry, Sandbox};

/// Puts everything in order. `broken` are folders without a record that can be read.
pub async fn run(shared: &Arc<Shared>, broken: Vec<PathBuf>) -> anyhow::Result<()> {
    for dir in &broken {
        discard(dir)?;
    }
    let sandboxes = shared.sandboxes.all();
    let each = sandboxes.iter().map(|entry| async move {
        if let Err(error) = take_over(shared, entry).await {
            tracing::warn!(sandbox = entry.id, "a sandbox could not be taken over: {error}");
        }
    });
    futures::future::join_all(each).await;
    for entry in shared.containers.all() {
        let orphan = shared.sandboxes.get(&entry.now().sandbox_id).is_err();
        if !entry.now().made || orphan {
            let _turn = entry.turn().await;
            container::discard(shared, &entry).await;
        }
    }
    leftover_state(shared)?;
    let (running, shared) = (sandboxes.len(), shared.clone());
    tracing::info!(sandboxes = running, "the embedded runtime took over what there was");
    tokio::spawn(async move { release(&shared).await });
    Ok(())
}

async fn take_over(shared: &Arc<Shared>, entry: &Arc<Entry<Sandbox>>) -> Result<()> {
    let monitor = shared.monitors.connect(&entry.id).await;
    if !entry.now().made {
        for container in shared.containers_of(&entry.id) {
            container::remove(shared, &container).await?;
        }
        sandbox::undo(shared, entry).await;
        return Ok(());
    }
    if entry.now().stopped {
        return Ok(());
    }
    let Ok(monitor) = monitor else {
        // the machine was started again, or somebody killed it
        watch::abandon(shared, &entry.id).await;
        return Ok(());
    };
    watch::follow(shared, entry.id.clone(), &monitor).await?;
    let known: HashSet<String> = monitor.list().await?.into_iter().map(|status| status.id).collect();
    for container in shared.containers_of(&entry.id) {
        settle_half_started(shared, &container, known.contains(&container.id)).await;
    }
    Ok(())
}

/// A start that was under way when the runtime ended was never acknowledged: it has failed.
async fn settle_half_started(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, known: bool) {
    let record = entry.now();
    match record.state() {
        ContainerState::ContainerCreated if known => {
            container::fail_start(shared, entry, "the runtime was ended while it was started").await;
        }
        ContainerState::ContainerRunning if !known => watch::ended_unseen(shared, entry).await,
        _ => {}
    }
}

/// Removes what no record speaks of.
fn discard(dir: &Path) -> anyhow::Result<()> {
    mounts::unmount_below(dir)?;
    std::fs::remove_dir_all(dir).with_context(|| format!("removing {}, which has no record", dir.display()))
}

fn leftover_state(shared: &Shared) -> anyhow::Result<()> {
    let dir = shared.config.state.join("sandboxes");
    for folder in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let id = folder.file_name();
        if id.to_str().is_none_or(|id| shared.sandboxes.get(id).is_err()) {
            discard(&folder.path())?;
        }
    }
    Ok(())
}

/// Addresses and images that nothing uses any more; nobody waits for it.
async fn release(shared: &Arc<Shared>) {
    let live = || shared.sandboxes.all().into_iter().map(|entry| entry.id.clone()).collect();
    if let Err(error) = shared.network.gc(live).await {
        tracing::debug!("addresses of pods that are gone could not be released: {error}");
    }
}
