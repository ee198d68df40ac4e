//! The metrics of pods, for those who ask the runtime instead of cAdvisor; cAdvisor's names and labels.
//!
//! Must not know: which runtime it is, how they are exposed.

mod cgroup;
mod links;
mod reading;
mod table;

pub use cgroup::{Cgroup, value_of};
pub use links::{Counts, Link, links};
pub use reading::Reading;

use crate::v1;
use crate::v1::MetricType;
use links::LINKS;
use table::Known;

const OF_CONTAINER: [&str; 4] = ["id", "name", "image", "container"];
const OF_LINK: [&str; 5] = ["id", "name", "image", "container", "interface"];

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

/// A sandbox's, with those of its running containers.
pub fn of_sandbox(id: &str, links: &[Link], container_metrics: Vec<v1::ContainerMetrics>) -> v1::PodSandboxMetrics {
    let seen_at = now();
    let of_link = |link: &Link| {
        let labels = [id, "POD", "", "POD", link.name.as_str()].map(str::to_owned);
        LINKS
            .each_ref()
            .map(|known| metric(known.name, seen_at, MetricType::Counter, labels.to_vec(), (known.of)(link)))
    };
    v1::PodSandboxMetrics {
        pod_sandbox_id: id.to_owned(),
        metrics: links.iter().flat_map(of_link).collect(),
        container_metrics,
    }
}

/// A running container's.
pub fn of_container(id: &str, config: &v1::ContainerConfig, reading: &Reading) -> v1::ContainerMetrics {
    let name = config.metadata.clone().unwrap_or_default().name;
    let image = config.image.clone().unwrap_or_default().image;
    let labels = [id.to_owned(), name.clone(), image, name];
    let seen_at = reading.seen_at.cast_signed();
    let of = |known: &'static Known| {
        let all = known.rows(reading).into_iter().map(|(own, value)| {
            let labels = labels.iter().cloned().chain(own).collect();
            metric(known.name, seen_at, known.kind, labels, value)
        });
        all.collect::<Vec<_>>()
    };
    v1::ContainerMetrics { metrics: table::known().flat_map(of).collect(), container_id: id.to_owned() }
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

/// Nanoseconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::reading::{Block, HugePages, Memory, Processes};
    use super::*;

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
        let metrics = of_container("id", &v1::ContainerConfig::default(), &reading).metrics;
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
