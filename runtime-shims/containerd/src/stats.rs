//! What containers and sandboxes use, read from the cgroups their processes are in.
//!
//! Must not know: CRI's calls.

use pintle_cri::metrics::{self, Cgroup, Link, value_of};
use pintle_cri::v1::{
    ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, LinuxPodSandboxStats,
    MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes, PodSandboxStats, ProcessUsage, UInt64Value,
};
use tonic::Status;

use crate::client::{During, internal, request};
use crate::record::{ContainerRecord, SandboxRecord, now};
use crate::{Inner, netns};

/// Use of one cgroup.
#[derive(Clone, Copy, Debug)]
struct Used {
    cpu_nanoseconds: u64,
    memory: u64,
    working_set: u64,
    rss: u64,
    page_faults: u64,
    major_page_faults: u64,
    processes: u64,
}

impl Inner {
    /// Statistics of a container that runs; of one that does not, its layer alone.
    pub async fn stats_of(&self, container: &ContainerRecord) -> Result<ContainerStats, Status> {
        let config = container.config.clone();
        let attributes = ContainerAttributes {
            id: container.id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
        };
        let task = self.task(&container.id).await?.filter(|task| task.pid != 0);
        let used = task.and_then(|task| Cgroup::of_process(task.pid)).and_then(|cgroup| used(&cgroup));
        let timestamp = now();
        Ok(ContainerStats {
            attributes: Some(attributes),
            cpu: used.map(|used| cpu(timestamp, used)),
            memory: used.map(|used| memory(timestamp, used)),
            writable_layer: self.layer_usage(&container.id).await?,
            ..ContainerStats::default()
        })
    }

    /// Statistics of a sandbox: its cgroup's, which are those of all in it, its links', its running containers'.
    pub async fn stats_of_pod(&self, sandbox: &SandboxRecord) -> Result<PodSandboxStats, Status> {
        let config = sandbox.config.clone();
        let attributes = PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: config.metadata,
            labels: config.labels,
            annotations: config.annotations,
        };
        let mut linux = LinuxPodSandboxStats::default();
        let ready = if sandbox.state.stopped { None } else { self.task(&sandbox.id).await? };
        if let Some(pid) = ready.map(|task| task.pid).filter(|pid| *pid != 0) {
            let has_parent = config.linux.is_some_and(|linux| !linux.cgroup_parent.is_empty());
            // a cgroup beside those of other pods' containers is no pod's
            let cgroup = has_parent.then(|| Cgroup::of_process(pid)).flatten();
            if let Some(used) = cgroup.and_then(|own| used(&own.parent())) {
                let timestamp = now();
                linux.cpu = Some(cpu(timestamp, used));
                linux.memory = Some(memory(timestamp, used));
                linux.process = Some(ProcessUsage { timestamp, process_count: some(used.processes) });
            }
            linux.network = self.network_usage(sandbox).await?;
        }
        for container in self.containers_of(&sandbox.id).await? {
            if container.state.started_at != 0 && container.state.finished_at == 0 {
                linux.containers.push(self.stats_of(&container).await?);
            }
        }
        Ok(PodSandboxStats { attributes: Some(attributes), linux: Some(linux), windows: None })
    }

    /// `None` on the host's network, whose counters are not the pod's.
    async fn network_usage(&self, sandbox: &SandboxRecord) -> Result<Option<NetworkUsage>, Status> {
        if sandbox.state.netns.is_none() {
            return Ok(None);
        }
        let mut interfaces: Vec<_> = self.links(sandbox).await?.into_iter().map(shown).collect();
        let default = interfaces.iter().position(|link: &NetworkInterfaceUsage| link.name == pintle_cni::INTERFACE);
        let default_interface = default.map(|index| interfaces.remove(index));
        Ok(Some(NetworkUsage { timestamp: now(), default_interface, interfaces }))
    }

    /// What went through a pod's links; none where they cannot be read, and none on the host's network.
    pub async fn links(&self, sandbox: &SandboxRecord) -> Result<Vec<Link>, Status> {
        let Some(path) = sandbox.state.netns.clone() else { return Ok(Vec::new()) };
        let read = move || netns::inside(&path, || Ok(metrics::links()?));
        let links = tokio::task::spawn_blocking(read).await.map_err(internal)?;
        Ok(links.unwrap_or_else(|error| {
            tracing::debug!("a pod's network cannot be read: {error:#}");
            Vec::new()
        }))
    }

    async fn layer_usage(&self, key: &str) -> Result<Option<FilesystemUsage>, Status> {
        use containerd_client::services::v1::snapshots::UsageRequest;
        let usage = UsageRequest { snapshotter: self.config.snapshotter.clone(), key: key.to_owned() };
        let Some(usage) = self.client.snapshots().usage(request(usage)).await.or_gone().during("measuring a layer")?
        else {
            return Ok(None);
        };
        let usage = usage.into_inner();
        Ok(Some(FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.layers_folder() }),
            used_bytes: unsigned(usage.size),
            inodes_used: unsigned(usage.inodes),
        }))
    }

    /// Where the snapshotter keeps layers; the root folder when containerd does not tell.
    pub fn layers_folder(&self) -> String {
        self.config.root.display().to_string()
    }
}

fn shown(link: Link) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: link.name,
        rx_bytes: some(link.received.bytes),
        rx_errors: some(link.received.errors),
        tx_bytes: some(link.sent.bytes),
        tx_errors: some(link.sent.errors),
    }
}

fn cpu(timestamp: i64, used: Used) -> CpuUsage {
    CpuUsage { timestamp, usage_core_nano_seconds: some(used.cpu_nanoseconds), ..CpuUsage::default() }
}

fn memory(timestamp: i64, used: Used) -> MemoryUsage {
    MemoryUsage {
        timestamp,
        working_set_bytes: some(used.working_set),
        usage_bytes: some(used.memory),
        rss_bytes: some(used.rss),
        page_faults: some(used.page_faults),
        major_page_faults: some(used.major_page_faults),
        ..MemoryUsage::default()
    }
}

fn some(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn unsigned(value: i64) -> Option<UInt64Value> {
    some(value.try_into().unwrap_or_default())
}

/// Use of a cgroup; `None` where there is none.
fn used(cgroup: &Cgroup) -> Option<Used> {
    let unified = cgroup.is_v2();
    let stat = cgroup.text("memory", "memory.stat");
    let field = |v1: &str, v2: &str| value_of(&stat, if unified { v2 } else { v1 }).unwrap_or_default();
    let memory = cgroup.number("memory", if unified { "memory.current" } else { "memory.usage_in_bytes" })?;
    let cpu_nanoseconds = if unified {
        value_of(&cgroup.text("cpu", "cpu.stat"), "usage_usec")?.saturating_mul(1000)
    } else {
        cgroup.number("cpuacct", "cpuacct.usage")?
    };
    Some(Used {
        cpu_nanoseconds,
        memory,
        working_set: memory.saturating_sub(field("total_inactive_file", "inactive_file")),
        rss: field("total_rss", "anon"),
        page_faults: field("total_pgfault", "pgfault"),
        major_page_faults: field("total_pgmajfault", "pgmajfault"),
        processes: cgroup.number("pids", "pids.current").unwrap_or_default(),
    })
}
