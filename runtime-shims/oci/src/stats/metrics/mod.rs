//! The metrics of pods, for those who ask the runtime instead of cAdvisor; cAdvisor's names and labels.
//!
//! Must not know: how they are exposed.

mod table;

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use pintle_bundle::sandbox_namespaces;
use pintle_cri::v1;
use pintle_cri::v1::MetricType;
use table::Known;

use super::cgroup::Cgroup;
use super::disk;
use super::network::{self, Link};
use super::reading::{self, Reading};
use crate::drivers::mounts::Snapshot;
use crate::error::Result;
use crate::plan::show;
use crate::runtime::Shared;
use crate::state::{Container, Entry, Sandbox};

const OF_CONTAINER: [&str; 4] = ["id", "name", "image", "container"];
const OF_LINK: [&str; 5] = ["id", "name", "image", "container", "interface"];

struct OfLink {
    name: &'static str,
    help: &'static str,
    of: fn(&Link) -> u64,
}

const fn of_link(name: &'static str, help: &'static str, of: fn(&Link) -> u64) -> OfLink {
    OfLink { name, help, of }
}

const LINKS: [OfLink; 8] = [
    of_link("container_network_receive_bytes_total", "Cumulative count of bytes received.", |link| link.received.bytes),
    of_link("container_network_receive_packets_total", "Cumulative count of packets received.", |link| {
        link.received.packets
    }),
    of_link(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving.",
        |link| link.received.errors,
    ),
    of_link(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving.",
        |link| link.received.dropped,
    ),
    of_link("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", |link| link.sent.bytes),
    of_link("container_network_transmit_packets_total", "Cumulative count of packets transmitted.", |link| {
        link.sent.packets
    }),
    of_link(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting.",
        |link| link.sent.errors,
    ),
    of_link(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting.",
        |link| link.sent.dropped,
    ),
];

/// Every metric there is.
pub fn descriptors() -> Vec<v1::MetricDescriptor> {
    let one = |name: &str, help: &str, labels: &[&str], own: &[&str]| v1::MetricDescriptor {
        name: name.into(),
        help: help.into(),
        label_keys: labels.iter().chain(own).map(|label| (*label).to_owned()).collect(),
    };
    let containers = table::known().map(|known| one(known.name, known.help, &OF_CONTAINER, known.own_labels()));
    containers.chain(LINKS.iter().map(|link| one(link.name, link.help, &OF_LINK, &[]))).collect()
}

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
    let seen_at = super::now();
    let of_link = |link: &Link| {
        let labels = [entry.id.as_str(), "POD", "", "POD", &link.name].map(str::to_owned);
        LINKS
            .each_ref()
            .map(|known| metric(known.name, seen_at, MetricType::Counter, labels.to_vec(), (known.of)(link)))
    };
    let containers = shared.containers_of(&entry.id);
    let running = containers.iter().filter(|one| one.now().is(v1::ContainerState::ContainerRunning));
    v1::PodSandboxMetrics {
        pod_sandbox_id: entry.id.clone(),
        metrics: links.iter().flatten().flat_map(of_link).collect(),
        container_metrics: running.map(|one| of_container(&one.now(), &read(shared, one))).collect(),
    }
}

/// Blocks while the writable layer is measured.
fn read(shared: &Shared, entry: &Entry<Container>) -> Reading {
    let record = entry.now();
    let cgroup = Cgroup { hierarchies: &shared.hierarchies, path: &record.cgroup };
    let used = disk::writable_layer(entry.dir()).and_then(|usage| usage.used_bytes).map_or(0, |used| used.value);
    Reading {
        cpu: cgroup.cpu_times(),
        memory: cgroup.memory_counts(),
        processes: cgroup.process_counts(record.pid),
        disk: reading::disk(&Snapshot::of(entry.dir()).upper, used),
        blocks: cgroup.blocks(),
        huge_pages: cgroup.huge_pages(),
        limits: cgroup.limits(),
        pressure: cgroup.stalled(),
        started_at: record.started_at.unsigned_abs(),
        seen_at: super::now().unsigned_abs(),
    }
}

fn of_container(record: &Container, reading: &Reading) -> v1::ContainerMetrics {
    let name = record.config.metadata.clone().unwrap_or_default().name;
    let image = record.config.image.clone().unwrap_or_default().image;
    let labels = [record.id.clone(), name.clone(), image, name];
    let seen_at = reading.seen_at.cast_signed();
    let of = |known: &'static Known| {
        let all = known.rows(reading).into_iter().map(|(own, value)| {
            let labels = labels.iter().cloned().chain(own).collect();
            metric(known.name, seen_at, known.kind, labels, value)
        });
        all.collect::<Vec<_>>()
    };
    v1::ContainerMetrics { metrics: table::known().flat_map(of).collect(), container_id: record.id.clone() }
}

fn metric(name: &str, timestamp: i64, kind: MetricType, label_values: Vec<String>, value: u64) -> v1::Metric {
    v1::Metric {
        name: name.into(),
        timestamp,
        metric_type: kind.into(),
        label_values,
        value: Some(v1::UInt64Value { value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::reading::{Block, HugePages, Memory, Processes};

    #[test]
    fn every_metric_is_described_with_as_many_labels_as_it_has() {
        let reading = Reading {
            memory: Memory { rss: 7, ..Memory::default() },
            processes: Processes { open_files_limit: Some(9), ..Processes::default() },
            blocks: vec![Block::default()],
            huge_pages: vec![HugePages { size: "2MB".into(), used: 0, most: Some(0) }],
            ..Reading::default()
        };
        let described = descriptors();
        let metrics = of_container(&Container::default(), &reading).metrics;
        for metric in &metrics {
            let descriptor = described.iter().find(|one| one.name == metric.name).unwrap();
            assert_eq!(descriptor.label_keys.len(), metric.label_values.len(), "{}", metric.name);
        }
        let rss = metrics.iter().find(|metric| metric.name == "container_memory_rss").unwrap();
        assert_eq!(rss.value.unwrap().value, 7);
    }

    #[test]
    fn no_name_is_described_twice() {
        let mut names: Vec<String> = descriptors().into_iter().map(|one| one.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
