//! Requests and limits to cgroup settings. Source: upstream's cm helpers and kuberuntime_container_linux.
//!
//! Must not know: where cgroups are.

use std::collections::{BTreeMap, HashMap};

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

/// What a container's settings depend on beside its specification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's memory in bytes, for OOM scores.
    pub memory: i64,
    /// The kernel's sizes of huge pages as cgroups name them: `2MB`.
    pub page_sizes: Vec<String>,
    /// The OOM killer takes all processes of a container with one (v2 alone can).
    pub oom_group: bool,
    /// Swap is counted by cgroups of v2: containers get none.
    pub counts_swap: bool,
}

/// A container's settings for the runtime.
pub fn linux_resources(pod: &Pod, container: &Container, node: &NodeFacts) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let limit = of(&resources.limits, "cpu", milli).unwrap_or(0);
    let request = of(&resources.requests, "cpu", milli).unwrap_or(limit);
    LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: quota(limit),
        cpu_shares: shares(request),
        memory_limit_in_bytes: of(&resources.limits, "memory", value).unwrap_or(0),
        oom_score_adj: qos::oom_score_adj(pod, container, node.memory),
        hugepage_limits: hugepages(&[&resources], &node.page_sizes),
        unified: unified(node),
        ..LinuxContainerResources::default()
    }
}

fn unified(node: &NodeFacts) -> HashMap<String, String> {
    let group = node.oom_group.then(|| ("memory.oom.group".to_owned(), "1".to_owned()));
    let swap = node.counts_swap.then(|| ("memory.swap.max".to_owned(), "0".to_owned()));
    group.into_iter().chain(swap).collect()
}

/// A limit for every size of the node's: what all ask for of it, or none at all.
fn hugepages(all: &[&ResourceRequirements], sizes: &[String]) -> Vec<HugepageLimit> {
    let limits = all.iter().flat_map(|resources| resources.limits.iter().flatten());
    let asked: Vec<(String, i64)> =
        limits.filter_map(|(name, quantity)| Some((page_size(name)?, value(quantity)))).collect();
    let sum =
        |size: &str| asked.iter().filter(|(other, _)| other == size).map(|(_, bytes)| (*bytes).max(0)).sum::<i64>();
    let limit = |size: &String| HugepageLimit { page_size: size.clone(), limit: sum(size).unsigned_abs() };
    sizes.iter().map(limit).collect()
}

/// `hugepages-2Mi` as cgroups name the size: `2MB`.
fn page_size(resource: &str) -> Option<String> {
    Some(resource.strip_prefix("hugepages-")?.replace('i', "") + "B")
}

/// What a pod's own cgroup is set to: `None` leaves a controller unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLimits {
    pub cpu_shares: i64,
    pub cpu_quota: Option<i64>,
    pub memory: Option<i64>,
    /// The node's bound for any pod; not the pod's own.
    pub pids: Option<i64>,
    /// For every size of the node's.
    pub hugepages: Vec<HugepageLimit>,
}

impl PodLimits {
    /// Wide enough for both.
    pub fn wider(&self, other: &Self) -> Self {
        let larger = |one: Option<i64>, other: Option<i64>| Some(one?.max(other?));
        Self {
            cpu_shares: self.cpu_shares.max(other.cpu_shares),
            cpu_quota: larger(self.cpu_quota, other.cpu_quota),
            memory: larger(self.memory, other.memory),
            ..other.clone()
        }
    }
}

/// The pod cgroup's settings: limits only when every container has one. Source: upstream's ResourceConfigForPod.
pub fn pod_limits(pod: &Pod, page_sizes: &[String]) -> PodLimits {
    let requests = pod_total(pod, false);
    let limits = pod_total(pod, true);
    let request = requests.0.or(limits.0).unwrap_or(0);
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| spec.containers.iter().chain(pod::init_containers(spec)));
    let resources: Vec<&ResourceRequirements> = containers.filter_map(|one| one.resources.as_ref()).collect();
    let own: Vec<&ResourceRequirements> = spec.and_then(|spec| spec.resources.as_ref()).into_iter().collect();
    PodLimits {
        cpu_shares: shares(request),
        cpu_quota: limits.0.map(quota).filter(|quota| *quota > 0),
        memory: limits.1.filter(|memory| *memory > 0),
        pids: None,
        hugepages: hugepages(if own.is_empty() { &resources } else { &own }, page_sizes),
    }
}

/// cpu.shares of the burstable level: for what its pods ask together, so that it weighs against guaranteed pods what
/// they would. Pods that ended ask for nothing. Source: upstream's qosContainerManager.
pub fn burstable_shares<'a>(pods: impl Iterator<Item = &'a Pod>) -> i64 {
    let burstable = pods.filter(|one| qos::class(one) == qos::Class::Burstable && !pod::has_ended(one));
    shares(burstable.map(|one| pod_total(one, false).0.unwrap_or(0)).sum())
}

/// cpu.shares as cpu.weight, as the kubelet reckons it for the cgroups above containers; runtimes have another curve.
/// Source: upstream's getCPUWeight.
pub fn weight(shares: i64) -> i64 {
    let shares = shares.clamp(MIN_SHARES, MAX_SHARES);
    1 + (shares - 2) * 9999 / 262_142
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
        let one = pod_limits(&pod(&format!("  containers: [{limited}]\n")), &[]);
        let hugepages = Vec::new();
        assert_eq!(
            one,
            PodLimits { cpu_shares: 512, cpu_quota: Some(50_000), memory: Some(64 << 20), pids: None, hugepages }
        );
        let two = pod_limits(&pod(&format!("  containers: [{limited}, {{name: b, image: i}}]\n")), &[]);
        assert_eq!((two.cpu_quota, two.memory), (None, None));
    }

    #[test]
    fn huge_pages_nobody_asks_for_are_none() {
        let sizes = ["1GB".to_owned(), "2MB".to_owned()];
        let two = "{name: a, image: i, resources: {limits: {hugepages-2Mi: 4Mi}}}";
        let pod = pod(&format!(
            "  containers: [{two}, {{name: b, image: i, resources: {{limits: {{hugepages-2Mi: 2Mi}}}}}}]\n"
        ));
        let shown = |limits: &[HugepageLimit]| -> Vec<(String, u64)> {
            limits.iter().map(|one| (one.page_size.clone(), one.limit)).collect()
        };
        let whole = shown(&pod_limits(&pod, &sizes).hugepages);
        assert_eq!(whole, [("1GB".to_owned(), 0), ("2MB".to_owned(), 6 << 20)]);
        let node = NodeFacts { page_sizes: sizes.to_vec(), ..NodeFacts::default() };
        let container = linux_resources(&pod, &pod.spec.as_ref().unwrap().containers[0], &node);
        assert_eq!(shown(&container.hugepage_limits), [("1GB".to_owned(), 0), ("2MB".to_owned(), 4 << 20)]);
        assert!(container.unified.is_empty());
    }

    #[test]
    fn on_v2_a_container_dies_as_one_and_has_no_swap() {
        let pod = pod("  containers: [{name: a, image: i}]\n");
        let node = NodeFacts { oom_group: true, counts_swap: true, ..NodeFacts::default() };
        let unified = linux_resources(&pod, &pod.spec.as_ref().unwrap().containers[0], &node).unified;
        assert_eq!((unified["memory.oom.group"].as_str(), unified["memory.swap.max"].as_str()), ("1", "0"));
    }

    #[test]
    fn the_burstable_level_weighs_what_its_pods_ask() {
        let asking = |cpu: &str| {
            pod(&format!("  containers: [{{name: a, image: i, resources: {{requests: {{cpu: {cpu}}}}}}}]\n"))
        };
        let best_effort = pod("  containers: [{name: a, image: i}]\n");
        assert_eq!(burstable_shares([asking("250m"), asking("1750m"), best_effort.clone()].iter()), 2048);
        assert_eq!(burstable_shares([best_effort].iter()), 2);
        assert_eq!([0, 2, 1024, 2048, 1 << 20].map(weight), [1, 1, 39, 79, 10_000]);
    }
}
