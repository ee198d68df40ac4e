//! The metrics of pods, for those who ask the runtime instead of cAdvisor; cAdvisor's names and labels.
//!
//! Must not know: how they are exposed.

use std::sync::Arc;

use pintle_cri::v1;
use pintle_cri::v1::MetricType;

use crate::error::Result;
use crate::runtime::Shared;

const OF_CONTAINER: [&str; 4] = ["id", "name", "image", "container"];
const OF_LINK: [&str; 4] = ["id", "name", "image", "interface"];

struct Known {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    of: fn(&v1::ContainerStats) -> Option<u64>,
}

const KNOWN: [Known; 7] = [
    Known {
        name: "container_cpu_usage_seconds_total",
        help: "Cumulative cpu time consumed in seconds.",
        kind: MetricType::Counter,
        of: |stats| Some(stats.cpu.as_ref()?.usage_core_nano_seconds?.value / 1_000_000_000),
    },
    Known {
        name: "container_memory_usage_bytes",
        help: "Current memory usage in bytes, including all memory regardless of when it was accessed.",
        kind: MetricType::Gauge,
        of: |stats| Some(stats.memory.as_ref()?.usage_bytes?.value),
    },
    Known {
        name: "container_memory_working_set_bytes",
        help: "Current working set in bytes.",
        kind: MetricType::Gauge,
        of: |stats| Some(stats.memory.as_ref()?.working_set_bytes?.value),
    },
    Known {
        name: "container_memory_rss",
        help: "Size of RSS in bytes.",
        kind: MetricType::Gauge,
        of: |stats| Some(stats.memory.as_ref()?.rss_bytes?.value),
    },
    Known {
        name: "container_memory_swap",
        help: "Container swap usage in bytes.",
        kind: MetricType::Gauge,
        of: |stats| Some(stats.swap.as_ref()?.swap_usage_bytes?.value),
    },
    Known {
        name: "container_fs_usage_bytes",
        help: "Number of bytes that are consumed by the container on this filesystem.",
        kind: MetricType::Gauge,
        of: |stats| Some(stats.writable_layer.as_ref()?.used_bytes?.value),
    },
    Known {
        name: "container_fs_inodes_total",
        help: "Number of inodes used by the container on this filesystem.",
        kind: MetricType::Gauge,
        of: |stats| Some(stats.writable_layer.as_ref()?.inodes_used?.value),
    },
];

struct Link {
    name: &'static str,
    help: &'static str,
    of: fn(&v1::NetworkInterfaceUsage) -> Option<u64>,
}

const LINKS: [Link; 4] = [
    Link {
        name: "container_network_receive_bytes_total",
        help: "Cumulative count of bytes received.",
        of: |link| Some(link.rx_bytes?.value),
    },
    Link {
        name: "container_network_receive_errors_total",
        help: "Cumulative count of errors encountered while receiving.",
        of: |link| Some(link.rx_errors?.value),
    },
    Link {
        name: "container_network_transmit_bytes_total",
        help: "Cumulative count of bytes transmitted.",
        of: |link| Some(link.tx_bytes?.value),
    },
    Link {
        name: "container_network_transmit_errors_total",
        help: "Cumulative count of errors encountered while transmitting.",
        of: |link| Some(link.tx_errors?.value),
    },
];

/// Every metric there is.
pub fn descriptors() -> Vec<v1::MetricDescriptor> {
    let one = |name: &str, help: &str, labels: &[&str]| v1::MetricDescriptor {
        name: name.into(),
        help: help.into(),
        label_keys: labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    let containers = KNOWN.iter().map(|known| one(known.name, known.help, &OF_CONTAINER));
    containers.chain(LINKS.iter().map(|link| one(link.name, link.help, &OF_LINK))).collect()
}

/// The metrics of every sandbox and its running containers.
pub async fn of_all(shared: &Arc<Shared>) -> Result<Vec<v1::PodSandboxMetrics>> {
    let all = super::sandboxes(shared, None).await?;
    let image = |id: &str| {
        let record = shared.containers.get(id).ok().map(|entry| entry.now());
        record.and_then(|record| record.config.image.clone()).unwrap_or_default().image
    };
    Ok(all.iter().map(|pod| of_pod(pod, &image)).collect())
}

fn of_pod(pod: &v1::PodSandboxStats, image: &impl Fn(&str) -> String) -> v1::PodSandboxMetrics {
    let id = pod.attributes.clone().unwrap_or_default().id;
    let linux = pod.linux.clone().unwrap_or_default();
    let network = linux.network.unwrap_or_default();
    let links = network.default_interface.iter().chain(&network.interfaces);
    let of_link = |link: &v1::NetworkInterfaceUsage| {
        let labels = [id.clone(), "POD".into(), String::new(), link.name.clone()];
        let read =
            |known: &Link| Some(metric(known.name, network.timestamp, MetricType::Counter, &labels, (known.of)(link)?));
        LINKS.iter().filter_map(read).collect::<Vec<_>>()
    };
    v1::PodSandboxMetrics {
        metrics: links.flat_map(of_link).collect(),
        container_metrics: linux.containers.iter().map(|stats| of_container(stats, image)).collect(),
        pod_sandbox_id: id,
    }
}

fn of_container(stats: &v1::ContainerStats, image: &impl Fn(&str) -> String) -> v1::ContainerMetrics {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let name = attributes.metadata.unwrap_or_default().name;
    let labels = [attributes.id.clone(), name.clone(), image(&attributes.id), name];
    let read = |known: &Known| Some(metric(known.name, super::now(), known.kind, &labels, (known.of)(stats)?));
    v1::ContainerMetrics { metrics: KNOWN.iter().filter_map(read).collect(), container_id: attributes.id }
}

fn metric(name: &str, timestamp: i64, kind: MetricType, labels: &[String], value: u64) -> v1::Metric {
    v1::Metric {
        name: name.into(),
        timestamp,
        metric_type: kind.into(),
        label_values: labels.to_vec(),
        value: Some(v1::UInt64Value { value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_with_as_many_labels_as_it_has() {
        let stats = v1::ContainerStats {
            memory: Some(v1::MemoryUsage { rss_bytes: super::super::some(7), ..Default::default() }),
            ..Default::default()
        };
        let described = descriptors();
        for metric in of_container(&stats, &|_| "image".to_owned()).metrics {
            let descriptor = described.iter().find(|one| one.name == metric.name).unwrap();
            assert_eq!(descriptor.label_keys.len(), metric.label_values.len());
            assert_eq!((metric.name.as_str(), metric.value.unwrap().value), ("container_memory_rss", 7));
        }
    }
}
