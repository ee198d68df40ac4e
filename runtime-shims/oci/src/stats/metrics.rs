//! The metrics of pods: what this runtime knows of each, in `pintle_cri::metrics`' words.
//!
//! Must not know: names of metrics.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use pintle_bundle::sandbox_namespaces;
use pintle_cri::metrics::{self, Cgroup, Reading};
use pintle_cri::v1;

use super::{disk, network};
use crate::drivers::mounts::Snapshot;
use crate::error::Result;
use crate::plan::show;
use crate::runtime::Shared;
use crate::state::{Container, Entry, Sandbox};

/// The metrics of every sandbox that is ready and its running containers.
pub async fn of_all(shared: &Arc<Shared>) -> Result<Vec<v1::PodSandboxMetrics>> {
    let mut all = shared.sandboxes.all();
    all.retain(|entry| show::sandbox_state(&entry.now()) == v1::PodSandboxState::SandboxReady);
    let each = all.into_iter().map(|entry| {
        let shared = shared.clone();
        async move { super::blocking(move || Ok(of_pod(&shared, &entry))).await }
    });
    futures::stream::iter(each).buffered(super::AT_ONCE).try_collect().await
}

fn of_pod(shared: &Shared, entry: &Entry<Sandbox>) -> v1::PodSandboxMetrics {
    let own_network = sandbox_namespaces(&entry.now().config).is_ok_and(|own| own.net);
    let links = if own_network { network::links(&shared.namespaces_of(&entry.id).join("net")) } else { None };
    let containers = shared.containers_of(&entry.id);
    let running = containers.iter().filter(|one| one.now().is(v1::ContainerState::ContainerRunning));
    let containers = running.map(|one| metrics::of_container(&one.id, &one.now().config, &read(one))).collect();
    metrics::of_sandbox(&entry.id, &links.unwrap_or_default(), containers)
}

/// Blocks while the writable layer is measured.
fn read(entry: &Entry<Container>) -> Reading {
    let record = entry.now();
    let used = disk::writable_layer(entry.dir()).and_then(|usage| usage.used_bytes).map_or(0, |used| used.value);
    let upper = Snapshot::of(entry.dir()).upper;
    Reading::take(&Cgroup::at(&record.cgroup), record.pid, &upper, used, record.started_at)
}
