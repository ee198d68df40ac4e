//! What containers and sandboxes use, read from the cgroups their processes are in.
//!
//! Must not know: CRI's calls.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pintle_cri::v1::{
    ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, MemoryUsage, UInt64Value,
};
use tonic::Status;

use crate::Inner;
use crate::client::{During, request};
use crate::record::{ContainerRecord, now};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Use of one cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    pub cpu_nanoseconds: u64,
    pub memory: u64,
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
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
        let used = self.task(&container.id).await?.filter(|task| task.pid != 0).and_then(|task| used(task.pid));
        let timestamp = now();
        Ok(ContainerStats {
            attributes: Some(attributes),
            cpu: used.map(|used| cpu(timestamp, used)),
            memory: used.map(|used| memory(timestamp, used)),
            writable_layer: self.layer_usage(&container.id).await?,
            ..ContainerStats::default()
        })
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

pub fn cpu(timestamp: i64, used: Used) -> CpuUsage {
    let usage_core_nano_seconds = Some(UInt64Value { value: used.cpu_nanoseconds });
    CpuUsage { timestamp, usage_core_nano_seconds, ..CpuUsage::default() }
}

pub fn memory(timestamp: i64, used: Used) -> MemoryUsage {
    let value = |value| Some(UInt64Value { value });
    MemoryUsage {
        timestamp,
        working_set_bytes: value(used.working_set),
        usage_bytes: value(used.memory),
        rss_bytes: value(used.rss),
        page_faults: value(used.page_faults),
        major_page_faults: value(used.major_page_faults),
        ..MemoryUsage::default()
    }
}

fn unsigned(value: i64) -> Option<UInt64Value> {
    Some(UInt64Value { value: value.try_into().unwrap_or_default() })
}

/// Use of the cgroup of a process.
pub fn used(pid: u32) -> Option<Used> {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    match folders(&membership) {
        Folders::V2(dir) => v2(&dir),
        Folders::V1 { cpu, memory } => v1(&cpu, &memory),
    }
}

#[derive(Debug, PartialEq)]
enum Folders {
    V1 { cpu: PathBuf, memory: PathBuf },
    V2(PathBuf),
}

/// `4:cpu,cpuacct:/pod/c` lines of v1 hierarchies come before `0::/pod/c`, which alone is v2.
fn folders(membership: &str) -> Folders {
    let of = |wanted: &str| {
        membership.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let has = controllers.split(',').any(|name| name == wanted);
            has.then(|| Path::new(CGROUPS).join(wanted).join(path.trim_start_matches('/')))
        })
    };
    match (of("cpuacct"), of("memory")) {
        (Some(cpu), Some(memory)) => Folders::V1 { cpu, memory },
        _ => {
            let path = membership.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
            Folders::V2(Path::new(CGROUPS).join(path))
        }
    }
}

fn v1(cpu: &Path, memory: &Path) -> Option<Used> {
    let stat = table(&memory.join("memory.stat"))?;
    let usage = number(&memory.join("memory.usage_in_bytes"))?;
    let field = |name: &str| stat.get(name).copied().unwrap_or_default();
    Some(Used {
        cpu_nanoseconds: number(&cpu.join("cpuacct.usage"))?,
        memory: usage,
        working_set: usage.saturating_sub(field("total_inactive_file")),
        rss: field("total_rss"),
        page_faults: field("total_pgfault"),
        major_page_faults: field("total_pgmajfault"),
    })
}

fn v2(dir: &Path) -> Option<Used> {
    let (stat, cpu) = (table(&dir.join("memory.stat"))?, table(&dir.join("cpu.stat"))?);
    let usage = number(&dir.join("memory.current"))?;
    let field = |name: &str| stat.get(name).copied().unwrap_or_default();
    Some(Used {
        cpu_nanoseconds: cpu.get("usage_usec").copied().unwrap_or_default().saturating_mul(1000),
        memory: usage,
        working_set: usage.saturating_sub(field("inactive_file")),
        rss: field("anon"),
        page_faults: field("pgfault"),
        major_page_faults: field("pgmajfault"),
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn table(path: &Path) -> Option<HashMap<String, u64>> {
    let text = fs::read_to_string(path).ok()?;
    let row = |line: &str| line.split_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    Some(text.lines().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_which_cgroups_it_is_in() {
        let hybrid = "11:memory:/pod/c\n4:cpu,cpuacct:/pod/c\n0::/init\n";
        let at = |path: &str| PathBuf::from(path);
        let expected =
            Folders::V1 { cpu: at("/sys/fs/cgroup/cpuacct/pod/c"), memory: at("/sys/fs/cgroup/memory/pod/c") };
        assert_eq!(folders(hybrid), expected);
        assert_eq!(folders("0::/pod/c\n"), Folders::V2(at("/sys/fs/cgroup/pod/c")));
    }
}
