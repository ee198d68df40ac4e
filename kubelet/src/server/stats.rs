//! `/stats/summary`, `/metrics/resource`, `/metrics/cadvisor`: what the runtime and the kernel count.
//!
//! Must not know: who reads them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use jiff::Timestamp;
use pintle_cri::v1::{
    ContainerStats, ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest, MemoryUsage, PsiStats,
    SwapUsage, UInt64Value,
};
use serde_json::{Value, json};

use super::Server;
use super::answer::{self, Answer};
use super::pressure::{self, Kind, RESOURCES};
use crate::plan::sandbox_config::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};

/// Whose rate is the node's: no container has this ID.
const NODE: &str = "";

/// One container's numbers: bytes, core-nanoseconds.
struct Usage {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    id: String,
    cpu: u64,
    /// When that was counted, in nanoseconds since the epoch.
    at: u64,
    working_set: u64,
    memory: MemoryUsage,
    /// Of cpu, memory and io, by that name: where the kernel has it.
    pressure: Vec<(&'static str, PsiStats)>,
    swap: Option<SwapUsage>,
    writable: u64,
}

impl Usage {
    fn of(stats: ContainerStats) -> Option<Self> {
        let attributes = stats.attributes?;
        let label = |key: &str| attributes.labels.get(key).cloned();
        let cpu = stats.cpu.unwrap_or_default();
        let memory = stats.memory.unwrap_or_default();
        Some(Self {
            namespace: label(POD_NAMESPACE)?,
            pod: label(POD_NAME)?,
            uid: label(POD_UID)?,
            container: label(CONTAINER_NAME)?,
            id: attributes.id,
            cpu: cpu.usage_core_nano_seconds.map_or(0, |value| value.value),
            at: u64::try_from(cpu.timestamp).unwrap_or_default(),
            working_set: memory.working_set_bytes.map_or(0, |value| value.value),
            pressure: [("cpu", cpu.psi), ("memory", memory.psi), ("io", stats.io.and_then(|io| io.psi))]
                .into_iter()
                .filter_map(|(what, psi)| Some((what, psi?)))
                .collect(),
            memory,
            swap: stats.swap,
            writable: stats.writable_layer.and_then(|layer| layer.used_bytes).map_or(0, |value| value.value),
        })
    }

    fn summary(&self, now: &str, known: &Known) -> Value {
        let mut all = json!({
            "name": self.container,
            "startTime": known.made(&self.id, now),
            "cpu": cpu(now, self.cpu, known.rates.get(&self.id).copied()),
            "memory": self.memory(now),
            "rootfs": {"time": now, "usedBytes": self.writable},
        });
        for (what, psi) in &self.pressure {
            if *what == "io" {
                all["io"] = json!({"time": now});
            }
            all[*what]["psi"] = pressure::summary(psi);
        }
        if let Some(swap) = &self.swap {
            let number = |value: &Option<UInt64Value>| value.map(|value| value.value);
            let (available, usage) = (number(&swap.swap_available_bytes), number(&swap.swap_usage_bytes));
            all["swap"] = json!({"time": now, "swapAvailableBytes": available, "swapUsageBytes": usage});
        }
        all
    }

    /// What the runtime does not tell is left out.
    fn memory(&self, now: &str) -> Value {
        let memory = &self.memory;
        let mut all = json!({"time": now, "workingSetBytes": self.working_set});
        for (name, value) in [
            ("availableBytes", &memory.available_bytes),
            ("usageBytes", &memory.usage_bytes),
            ("rssBytes", &memory.rss_bytes),
            ("pageFaults", &memory.page_faults),
            ("majorPageFaults", &memory.major_page_faults),
        ] {
            if let Some(value) = value {
                all[name] = value.value.into();
            }
        }
        all
    }
}

/// What no counter says by itself.
struct Known {
    /// When sandboxes (by the UID of their pod) and containers were made, in nanoseconds since the epoch.
    made: HashMap<String, i64>,
    /// Core-nanoseconds in a second, of containers and of the node.
    rates: HashMap<String, u64>,
}

impl Known {
    fn made(&self, id: &str, now: &str) -> String {
        let made = self.made.get(id).and_then(|at| Timestamp::from_nanosecond((*at).into()).ok());
        made.map_or_else(|| now.to_owned(), seconds_of)
    }
}

/// As upstream writes times: whole seconds.
fn seconds_of(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The rate is left out until there were two looks at the counter.
fn cpu(now: &str, used: u64, rate: Option<u64>) -> Value {
    let mut cpu = json!({"time": now, "usageCoreNanoSeconds": used});
    if let Some(rate) = rate {
        cpu["usageNanoCores"] = rate.into();
    }
    cpu
}

/// The node's own numbers: core-nanoseconds, bytes.
struct NodeUsage {
    cpu: u64,
    /// When the kernel began.
    booted: Option<Timestamp>,
    working_set: u64,
    available: u64,
}

impl NodeUsage {
    fn read() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        let (total, available) = (field("MemTotal"), field("MemAvailable"));
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self { cpu: cpu_time(&stat), booted: boot_time(&stat), working_set: total.saturating_sub(available), available }
    }
}

fn boot_time(stat: &str) -> Option<Timestamp> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(seconds).ok()
}

/// Busy time of all processors: everything but idle and iowait, in nanoseconds; the file counts hundredths of a second.
fn cpu_time(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // guest time is counted in user time already
    let busy = ticks.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    busy.map(|(_, ticks)| ticks).sum::<u64>() * 10_000_000
}

impl Server {
    async fn usage(&self) -> Vec<Usage> {
        let answer = self.runtime.runtime.clone().list_container_stats(ListContainerStatsRequest::default()).await;
        let all = answer.map(|answer| answer.into_inner().stats).unwrap_or_default();
        all.into_iter().filter_map(Usage::of).collect()
    }

    /// When everything in the runtime was made; upstream's start times.
    async fn made(&self) -> HashMap<String, i64> {
        let mut runtime = self.runtime.runtime.clone();
        let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await;
        let sandboxes = sandboxes.map(|answer| answer.into_inner().items).unwrap_or_default();
        let mut made = HashMap::new();
        for sandbox in sandboxes {
            if let Some(pod) = sandbox.metadata {
                // of several the newest is the pod's
                let at = made.entry(pod.uid).or_insert(sandbox.created_at);
                *at = sandbox.created_at.max(*at);
            }
        }
        let containers = runtime.list_containers(ListContainersRequest::default()).await;
        let containers = containers.map(|answer| answer.into_inner().containers).unwrap_or_default();
        made.extend(containers.into_iter().map(|container| (container.id, container.created_at)));
        made
    }

    pub(super) async fn summary(&self) -> Answer {
        let instant = Timestamp::now();
        let now = instant.to_string();
        let node = NodeUsage::read();
        let usage = self.usage().await;
        let whole = u64::try_from(instant.as_nanosecond()).unwrap_or_default();
        let looks = usage.iter().map(|one| (one.id.clone(), one.at, one.cpu));
        let rates = self.rates.look(looks.chain([(NODE.to_owned(), whole, node.cpu)]));
        let known = Known { made: self.made().await, rates };
        let mut pods: BTreeMap<String, Vec<Usage>> = BTreeMap::new();
        for usage in usage {
            pods.entry(usage.uid.clone()).or_default().push(usage);
        }
        let pods: Vec<Value> = pods.values().filter_map(|containers| pod_summary(containers, &now, &known)).collect();
        answer::json(&json!({
            "node": {
                "nodeName": self.config.node_name,
                "startTime": seconds_of(node.booted.unwrap_or(instant)),
                "cpu": cpu(&now, node.cpu, known.rates.get(NODE).copied()),
                "memory": {"time": now, "availableBytes": node.available, "workingSetBytes": node.working_set},
                "fs": self.file_system(&now),
            },
            "pods": pods,
        }))
    }

    fn file_system(&self, now: &str) -> Value {
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.config.root_dir) else { return Value::Null };
        let unit = stat.fragment_size();
        let (total, free) = (stat.blocks() * unit, stat.blocks_available() * unit);
        json!({
            "time": now, "availableBytes": free, "capacityBytes": total, "usedBytes": total - stat.blocks_free() * unit,
            "inodesFree": stat.files_free(), "inodes": stat.files(), "inodesUsed": stat.files() - stat.files_free(),
        })
    }

    pub(super) async fn resource_metrics(&self) -> Answer {
        let node = NodeUsage::read();
        let mut text = String::new();
        let usage = self.usage().await;
        family(
            &mut text,
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
        );
        line(&mut text, "node_cpu_usage_seconds_total", "", seconds(node.cpu));
        family(&mut text, "node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge");
        line(&mut text, "node_memory_working_set_bytes", "", node.working_set);
        family(
            &mut text,
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
        );
        for one in &usage {
            line(&mut text, "container_cpu_usage_seconds_total", &labels(one), seconds(one.cpu));
        }
        family(
            &mut text,
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
            "gauge",
        );
        for one in &usage {
            line(&mut text, "container_memory_working_set_bytes", &labels(one), one.working_set);
        }
        pod_families(&mut text, &usage);
        answer::metrics(text)
    }

    pub(super) async fn cadvisor_metrics(&self) -> Answer {
        let mut text = String::new();
        let usage = self.usage().await;
        let own = |one: &Usage| {
            format!(
                "{{container=\"{}\",id=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                one.container, one.id, one.namespace, one.pod
            )
        };
        family(&mut text, "machine_cpu_cores", "Number of logical CPU cores.", "gauge");
        line(&mut text, "machine_cpu_cores", "", self.machine.cpus);
        family(&mut text, "machine_memory_bytes", "Amount of memory installed on the machine.", "gauge");
        line(&mut text, "machine_memory_bytes", "", self.machine.memory);
        family(&mut text, "container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "counter");
        for one in &usage {
            line(&mut text, "container_cpu_usage_seconds_total", &own(one), seconds(one.cpu));
        }
        family(&mut text, "container_memory_working_set_bytes", "Current working set in bytes.", "gauge");
        for one in &usage {
            line(&mut text, "container_memory_working_set_bytes", &own(one), one.working_set);
        }
        pressure_families(&mut text, &usage, own);
        answer::metrics(text)
    }
}

fn pressure_families(text: &mut String, usage: &[Usage], labels: impl Fn(&Usage) -> String) {
    for (resource, kind) in RESOURCES.into_iter().flat_map(|resource| Kind::ALL.map(|kind| (resource, kind))) {
        let name = pressure::metric(resource, kind);
        family(text, &name, &pressure::help(resource, kind), "counter");
        for one in usage {
            let psi = one.pressure.iter().find(|(other, _)| *other == resource);
            if let Some(seconds) = psi.and_then(|(_, psi)| kind.seconds(psi)) {
                line(text, &name, &labels(one), seconds);
            }
        }
    }
}

fn pod_summary(containers: &[Usage], now: &str, known: &Known) -> Option<Value> {
    let first = containers.first()?;
    let rate = containers.iter().map(|one| known.rates.get(&one.id).copied()).sum::<Option<u64>>();
    let sum = |read: fn(&Usage) -> u64| containers.iter().map(read).sum::<u64>();
    Some(json!({
        "podRef": {"name": first.pod, "namespace": first.namespace, "uid": first.uid},
        "startTime": known.made(&first.uid, now),
        "containers": containers.iter().map(|one| one.summary(now, known)).collect::<Vec<_>>(),
        "cpu": cpu(now, sum(|one| one.cpu), rate),
        "memory": {"time": now, "workingSetBytes": sum(|one| one.working_set)},
    }))
}

fn pod_families(text: &mut String, usage: &[Usage]) {
    let mut pods: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for one in usage {
        let pod = pods.entry((&one.namespace, &one.pod)).or_default();
        pod.0 += one.cpu;
        pod.1 += one.working_set;
    }
    let of = |(namespace, pod): &(&str, &str)| format!("{{namespace=\"{namespace}\",pod=\"{pod}\"}}");
    family(text, "pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "counter");
    for (key, (cpu, _)) in &pods {
        line(text, "pod_cpu_usage_seconds_total", &of(key), seconds(*cpu));
    }
    family(text, "pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge");
    for (key, (_, memory)) in &pods {
        line(text, "pod_memory_working_set_bytes", &of(key), *memory);
    }
}

fn labels(one: &Usage) -> String {
    format!("{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}", one.container, one.namespace, one.pod)
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn family(text: &mut String, name: &str, help: &str, kind: &str) {
    // writing to a String cannot fail
    let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_leaves_idle_and_iowait_out() {
        assert_eq!(cpu_time("cpu  1 2 3 100 50 4 5 6 7 8\ncpu0 1\n"), (1 + 2 + 3 + 4 + 5 + 6) * 10_000_000);
    }
    #[test]
    fn a_start_is_when_something_was_made_and_a_rate_only_what_is_known() {
        let known = Known { made: HashMap::from([("c".to_owned(), 1_500_000_000)]), rates: HashMap::new() };
        assert_eq!(known.made("c", "now"), "1970-01-01T00:00:01Z");
        assert_eq!(known.made("d", "now"), "now");
        assert_eq!(boot_time("cpu 1\nbtime 60\n").map(seconds_of).as_deref(), Some("1970-01-01T00:01:00Z"));
        assert_eq!(cpu("t", 5, None), json!({"time": "t", "usageCoreNanoSeconds": 5}));
        assert_eq!(cpu("t", 5, Some(0))["usageNanoCores"], 0);
    }
}
