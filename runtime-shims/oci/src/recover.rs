//! The start after an end of any kind: every sandbox and container is accounted for, what was half made is removed.
//!
//! Must not know: calls.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintle_cri::v1::ContainerState;
use pintle_monitor::{Monitor, State};

use crate::container;
use crate::drivers::launcher::{LIMIT, Launcher};
use crate::drivers::mounts;
use crate::error::Result;
use crate::runtime::Shared;
use crate::sandbox::{self, watch};
use crate::state::{Container, Entry, Sandbox};

/// How long the start waits for a pod that is taken away.
const SOON: Duration = Duration::from_secs(5);

/// Puts everything in order. `broken` are folders without a record that can be read.
pub async fn run(shared: &Arc<Shared>, broken: Vec<PathBuf>) {
    broken.iter().for_each(|dir| discard(dir));
    go_on(shared);
    let sandboxes = shared.sandboxes.all();
    let each = sandboxes.iter().map(|entry| async move {
        if let Err(error) = take_over(shared, entry).await {
            tracing::warn!(sandbox = entry.id, "a sandbox could not be taken over: {error}");
            // its monitor ended just now: nobody will see how what it ran ends
            if error.is_gone_monitor() {
                watch::abandon(shared, &entry.id).await;
            }
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
    leftover_state(shared);
    leftover_layers(shared);
    leftover_launches(shared).await;
    let (running, shared) = (sandboxes.len(), shared.clone());
    tracing::info!(sandboxes = running, "the embedded runtime took over what there was");
    tokio::spawn(async move { release(&shared).await });
}

/// Containers that were held for a checkpoint; CRIU may be at work on them still.
fn go_on(shared: &Arc<Shared>) {
    for entry in shared.containers.all() {
        if container::checkpoint::was_begun(entry.dir()) {
            let shared = shared.clone();
            tokio::spawn(async move { container::checkpoint::abandoned(&shared, &entry).await });
        }
    }
}

async fn take_over(shared: &Arc<Shared>, entry: &Arc<Entry<Sandbox>>) -> Result<()> {
    let monitor = shared.monitors.connect(&entry.id).await;
    if let Ok(monitor) = &monitor {
        launched(monitor).await;
    }
    if !entry.now().made {
        if monitor.is_err() {
            // after a power failure, the records of its containers may be newer than its own
            watch::end_all(shared, &entry.id).await;
        }
        for container in shared.containers_of(&entry.id) {
            container::remove(shared, &container).await?;
        }
        let (shared, entry) = (shared.clone(), entry.clone());
        soon(async move { sandbox::undo(&shared, &entry).await }).await;
        return Ok(());
    }
    if entry.now().stopped {
        return Ok(());
    }
    let Ok(monitor) = monitor else {
        // the machine was started again, or somebody killed it
        let (shared, id) = (shared.clone(), entry.id.clone());
        soon(async move { watch::abandon(&shared, &id).await }).await;
        return Ok(());
    };
    let known: HashMap<String, State> = monitor.list().await?.into_iter().map(|it| (it.id, it.state)).collect();
    container::session::end_forgotten(&shared.state_of(&entry.id), &monitor, known.keys()).await;
    watch::follow(shared, entry.id.clone(), &monitor).await?;
    for container in shared.containers_of(&entry.id) {
        settle_half_started(shared, &container, known.get(&container.id)).await;
    }
    Ok(())
}

/// Waits for what asks network plugins, but not for one that hangs: it may need pods of this machine. It goes on then.
async fn soon(work: impl Future<Output = ()> + Send + 'static) {
    if tokio::time::timeout(SOON, tokio::spawn(work)).await.is_err() {
        tracing::warn!("a pod is not taken away within {SOON:?}: calls are served meanwhile");
    }
}

/// Waits for command lines of an OCI runtime that the monitor still runs: what they make cannot be taken away before.
async fn launched(monitor: &Monitor) {
    for status in monitor.list().await.unwrap_or_default() {
        if status.state == State::Starting {
            // its outcome is in the next list
            let _ = monitor.started(&status.id, LIMIT).await;
        }
    }
}

/// A start that was under way when the runtime ended was never acknowledged: it is brought to its end.
async fn settle_half_started(shared: &Arc<Shared>, entry: &Arc<Entry<Container>>, known: Option<&State>) {
    match (entry.now().state(), known) {
        (ContainerState::ContainerCreated, Some(State::Running { pid })) => {
            container::finish_start(shared, entry, *pid).await;
        }
        (ContainerState::ContainerCreated, Some(State::Exited { exit, .. })) => {
            let (end, at) = watch::seen(exit);
            container::ended_start(shared, entry, end, at).await;
        }
        (ContainerState::ContainerRunning, None) => watch::ended_unseen(shared, entry).await,
        _ => {}
    }
}

/// Removes what no record speaks of. What cannot be removed is no reason not to start.
fn discard(path: &Path) {
    let removed = mounts::unmount_below(path).and_then(|()| match path.is_dir() {
        true => Ok(pintle_daemon::tree::remove(path)?),
        false => Ok(std::fs::remove_file(path)?),
    });
    match removed {
        Ok(()) => tracing::info!(path = %path.display(), "removed: no record speaks of it"),
        Err(error) => tracing::warn!(path = %path.display(), "no record speaks of it, and it stays: {error:#}"),
    }
}

fn leftover_state(shared: &Shared) {
    for (id, path) in folders(&shared.config.state.join("sandboxes")) {
        if !shared.sandboxes.has(&id) {
            discard(&path);
        }
    }
}

/// Layers that were being mounted for users of a user namespace.
fn leftover_layers(shared: &Shared) {
    for (_, path) in folders(&shared.config.state.join("mapped")) {
        if let Err(error) = pintle_launch::Mapped::clear(&path) {
            tracing::warn!(path = %path.display(), "mapped layers stay mounted: {error}");
        }
    }
}

/// What OCI runtimes keep of containers that nobody knows.
async fn leftover_launches(shared: &Shared) {
    let roots = folders(&shared.config.state).filter(|(name, _)| name == "launch" || name.starts_with("launch-"));
    for (name, root) in roots {
        let Ok(launcher) = shared.launcher(name.strip_prefix("launch-").unwrap_or_default()) else { continue };
        for (id, _) in folders(&root).filter(|(id, _)| !shared.containers.has(id) && !shared.sandboxes.has(id)) {
            delete(&launcher, &id).await;
        }
    }
}

async fn delete(launcher: &Launcher, id: &str) {
    match launcher.delete(id).await {
        Ok(()) => tracing::info!(container = id, "removed: no record speaks of it"),
        Err(error) => tracing::warn!(container = id, "no record speaks of it, and it stays: {error:#}"),
    }
}

fn folders(dir: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|folder| (folder.file_name().to_string_lossy().into_owned(), folder.path()))
}

/// Addresses and images that nothing uses any more; nobody waits for it.
async fn release(shared: &Arc<Shared>) {
    // one whose end a kill cut short is not on the network any more, though it is there
    let live = || {
        let all = shared.sandboxes.all().into_iter();
        all.filter(|entry| entry.now().on_network).map(|entry| entry.id.clone()).collect()
    };
    if let Err(error) = shared.network.gc(live).await {
        tracing::debug!("addresses of pods that are gone could not be released: {error}");
    }
    let shared = shared.clone();
    let released = tokio::task::spawn_blocking(move || release_images(&shared)).await;
    if let Ok(Err(error)) = released {
        tracing::warn!("what images left behind could not be removed: {error}");
    }
}

/// Images are held by containers alone. One that is being created has its record before it holds any.
fn release_images(shared: &Shared) -> Result<()> {
    for hold in shared.images.holds()? {
        if !shared.containers.has(&hold.user) {
            shared.images.release(&hold.image, &hold.user)?;
        }
    }
    Ok(shared.images.collect()?)
}
