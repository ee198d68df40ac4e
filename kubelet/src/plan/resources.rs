//! Requests and limits to cgroup settings. Source: upstream's cm helpers and kuberuntime_container_linux.
//!
//! Must not know: cgroup files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pintle_cri::v1::{HugepageLimit, LinuxContainerResources};

use super::pod;
use super::qos;
use super::quantity::{milli, value};

pub const CPU_PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA: i64 = 1000;

/// cpu.shares for a request in milli CPUs.
pub fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { MIN_SHARES } else { (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// cpu.cfs_quota_us for a limit in milli CPUs; 0 without one.
pub fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * CPU_PERIOD / 1000).max(MIN_QUOTA) }
}

type Map = Option<BTreeMap<String, Quantity>>;

fn of(map: &Map, name: &str, read: fn(&Quantity) -> i64) -> Option<i64> {
    map.as_ref()?.get(name).map(read)
}

/// A container's settings for the runtime.
pub fn linux_resources(pod: &Pod, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let limit = of(&resources.limits, "cpu", milli).unwrap_or(0);
    let request = of(&resources.requests, "cpu", milli).unwrap_or(limit);
    LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: quota(limit),
        cpu_shares: shares(request),
        memory_limit_in_bytes: of(&resources.limits, "memory", value).unwrap_or(0),
        oom_score_adj: qos::oom_score_adj(pod, container, node_memory),
        hugepage_limits: hugepages(&resources),
        ..LinuxContainerResources::default()
    }
}

fn hugepages(resources: &ResourceRequirements) -> Vec<HugepageLimit> {
    let limits = resources.limits.iter().flatten();
    let pages = limits.filter_map(|(name, quantity)| Some((name.strip_prefix("hugepages-")?, value(quantity))));
    pages
        .map(|(size, limit)| HugepageLimit { page_size: size.replace('i', "") + "B", limit: limit.max(0) as u64 })
        .collect()
}

/// What a pod's own cgroup is set to: `None` leaves a controller unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLimits {
    pub cpu_shares: i64,
    pub cpu_quota: Option<i64>,
    pub memory: Option<i64>,
}

/// The pod cgroup's settings: limits only when every container has one. Source: upstream's ResourceConfigForPod.
pub fn pod_limits(pod: &Pod) -> PodLimits {
    let requests = pod_total(pod, false);
    let limits = pod_total(pod, true);
    let request = requests.0.or(limits.0).unwrap_or(0);
    PodLimits {
        cpu_shares: shares(request),
        cpu_quota: limits.0.map(quota).filter(|quota| *quota > 0),
        memory: limits.1.filter(|memory| *memory > 0),
    }
}

/// cpu (milli) and memory (bytes) of a pod; a limit is `None` as soon as one container has none.
fn pod_total(pod: &Pod, limits: bool) -> (Option<i64>, Option<i64>) {
    let Some(spec) = &pod.spec else { return (None, None) };
    let pick = |resources: &ResourceRequirements| {
        if limits {
            return resources.limits.clone();
        }
        // a limit without a request asks for as much, as the API's defaults have it
        let mut all = resources.limits.clone().unwrap_or_default();
        all.extend(resources.requests.clone().unwrap_or_default());
        Some(all)
    };
    if let Some(own) = spec.resources.as_ref().map(pick) {
        let (cpu, memory) = (of(&own, "cpu", milli), of(&own, "memory", value));
        if cpu.is_some() || memory.is_some() {
            return (cpu, memory);
        }
    }
    let sum = |name: &str, read: fn(&Quantity) -> i64| {
        let one = |container: &Container| {
            let map = container.resources.as_ref().map(pick).unwrap_or_default();
            of(&map, name, read).or_else(|| (!limits).then_some(0))
        };
        total(spec.containers.iter().map(&one), pod::init_containers(spec).iter().map(|c| (pod::is_sidecar(c), one(c))))
    };
    (sum("cpu", milli), sum("memory", value))
}

/// Regular containers and sidecars add up; an init container counts when it alone needs more.
fn total(regular: impl Iterator<Item = Option<i64>>, init: impl Iterator<Item = (bool, Option<i64>)>) -> Option<i64> {
    let mut sidecars = 0;
    let mut peak = 0;
    for (sidecar, amount) in init {
        let amount = amount?;
        if sidecar {
            sidecars += amount;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + amount);
        }
    }
    let sum = regular.sum::<Option<i64>>()?;
    Some(peak.max(sum + sidecars))
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    #[test]
    fn shares_and_quotas_keep_the_kernels_bounds() {
        assert_eq!([0, 1, 250, 1_000_000].map(shares), [2, 2, 256, 262_144]);
        assert_eq!([0, 5, 500].map(quota), [0, 1000, 50_000]);
    }

    #[test]
    fn a_pod_is_limited_only_when_every_container_is() {
        let limited = "{name: a, image: i, resources: {limits: {cpu: 500m, memory: 64Mi}}}";
        let one = pod_limits(&pod(&format!("  containers: [{limited}]\n")));
        assert_eq!(one, PodLimits { cpu_shares: 512, cpu_quota: Some(50_000), memory: Some(64 << 20) });
        let two = pod_limits(&pod(&format!("  containers: [{limited}, {{name: b, image: i}}]\n")));
        assert_eq!((two.cpu_quota, two.memory), (None, None));
    }
}
