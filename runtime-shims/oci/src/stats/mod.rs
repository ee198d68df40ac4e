//! What containers and pods use: read from their cgroups, the pod's network and the files of the writable layer.
//!
//! Must not know: who asks.

mod cgroup;
pub mod disk;
pub mod metrics;
mod network;

use std::sync::Arc;

use futures::StreamExt as _;
use pintle_bundle::{parent_dir, sandbox_namespaces};
use pintle_cri::v1;
use pintle_cri::v1::ContainerState;

use crate::clock;
use crate::error::{Error, Result};
use crate::plan::{filter, show};
use crate::runtime::Shared;
use crate::state::{Container, Entry, Sandbox};

/// Sandboxes looked at side by side.
const AT_ONCE: usize = 8;

/// One container's. Blocks while its writable layer is measured.
pub fn of_container(shared: &Shared, entry: &Entry<Container>) -> v1::ContainerStats {
    let record = entry.now();
    let mut stats = v1::ContainerStats {
        attributes: Some(show::container_attributes(&record)),
        writable_layer: disk::writable_layer(entry.dir()),
        ..v1::ContainerStats::default()
    };
    if record.is(ContainerState::ContainerRunning) {
        let cgroup = cgroup::Cgroup { hierarchies: &shared.hierarchies, path: &record.cgroup };
        stats.cpu = Some(cgroup.cpu());
        stats.memory = Some(cgroup.memory());
        stats.swap = cgroup.swap();
        stats.io = cgroup.io();
    }
    stats
}

/// Those of the containers that a filter selects.
pub async fn containers(
    shared: &Arc<Shared>,
    filter: Option<v1::ContainerStatsFilter>,
) -> Result<Vec<v1::ContainerStats>> {
    let shared = shared.clone();
    blocking(move || {
        let mut all = shared.containers.all();
        all.retain(|entry| {
            let record = entry.now();
            // upstream's runtimes leave out what does not run
            record.is(ContainerState::ContainerRunning) && filter::container_stats(filter.as_ref(), &record)
        });
        Ok(all.iter().map(|entry| of_container(&shared, entry)).collect())
    })
    .await
}

/// One sandbox's, with its containers'.
pub async fn sandbox(shared: &Arc<Shared>, entry: &Arc<Entry<Sandbox>>) -> Result<v1::PodSandboxStats> {
    let (shared, entry) = (shared.clone(), entry.clone());
    blocking(move || Ok(of_sandbox(&shared, &entry))).await
}

fn of_sandbox(shared: &Shared, entry: &Entry<Sandbox>) -> v1::PodSandboxStats {
    let record = entry.now();
    let mut linux = v1::LinuxPodSandboxStats::default();
    let ready = show::sandbox_state(&record) == v1::PodSandboxState::SandboxReady;
    if ready && !record.cgroup_parent().is_empty() {
        let path = parent_dir(record.cgroup_parent());
        let cgroup = cgroup::Cgroup { hierarchies: &shared.hierarchies, path: &path };
        linux.cpu = Some(cgroup.cpu());
        linux.memory = Some(cgroup.memory());
        linux.io = cgroup.io();
        linux.process = Some(cgroup.processes());
    }
    if ready && sandbox_namespaces(&record.config).is_ok_and(|own| own.net) {
        linux.network = network::usage(&shared.namespaces_of(&entry.id).join("net"));
    }
    let containers = shared.containers_of(&entry.id);
    let running = containers.iter().filter(|one| one.now().is(ContainerState::ContainerRunning));
    linux.containers = running.map(|one| of_container(shared, one)).collect();
    v1::PodSandboxStats { attributes: Some(show::sandbox_attributes(&record)), linux: Some(linux), windows: None }
}

/// Those of the sandboxes that a filter selects.
pub async fn sandboxes(
    shared: &Arc<Shared>,
    filter: Option<v1::PodSandboxStatsFilter>,
) -> Result<Vec<v1::PodSandboxStats>> {
    let mut all = shared.sandboxes.all();
    all.retain(|entry| filter::sandbox_stats(filter.as_ref(), &entry.now()) && entry.now().made);
    let each = all.into_iter().map(|entry| {
        let shared = shared.clone();
        async move { sandbox(&shared, &entry).await }
    });
    futures::stream::iter(each).buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Failed(anyhow::Error::from(error).context("measuring")))?
}

fn some(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn now() -> i64 {
    clock::now()
}
