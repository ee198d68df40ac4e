//! The cgroups above containers: `kubepods`, a level per QoS class, one per pod. v2, v1 and hybrid hosts; a host that
//! refuses is warned about once per pod and the pod runs without the limit of its own cgroup.
//!
//! Must not know: containers (the runtime makes theirs below the pod's).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;

use crate::config::CgroupDriver;
use crate::plan::pod;
use crate::plan::qos::{self, Class};
use crate::plan::resources::{CPU_PERIOD, PodLimits, pod_limits};

const ROOT: &str = "/sys/fs/cgroup";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// One hierarchy at `/sys/fs/cgroup`.
    V2,
    /// One per controller below it (a v2 tree beside them is the hybrid layout and has no controllers).
    V1,
}

/// Where pods' cgroups are.
#[derive(Debug, Clone)]
pub struct Cgroups {
    driver: CgroupDriver,
    base: String,
    per_qos: bool,
    version: Version,
    root: PathBuf,
}

impl Cgroups {
    /// `base` is the parent of `kubepods`.
    pub fn new(driver: CgroupDriver, base: &str, per_qos: bool) -> Self {
        let root = PathBuf::from(ROOT);
        let version = if root.join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 };
        Self { driver, base: base.trim_matches('/').into(), per_qos, version, root }
    }

    /// The pod's cgroup as the runtime takes it in `cgroup_parent`.
    pub fn parent(&self, pod: &Pod) -> String {
        if !self.per_qos {
            return String::new();
        }
        let parts = parts(qos::class(pod), pod::uid(pod));
        match self.driver {
            CgroupDriver::Cgroupfs => format!("/{}", join(&self.base, &parts.join("/"))),
            // systemd's name of a nested slice repeats its parents; the path's dashes are underscores
            CgroupDriver::Systemd => {
                format!("{}.slice", parts.iter().map(|part| part.replace('-', "_")).collect::<Vec<_>>().join("-"))
            }
        }
    }

    /// Makes the pod's cgroup and sets its limits. Under systemd the runtime makes it.
    pub fn ensure(&self, pod: &Pod) {
        if !self.per_qos || self.driver == CgroupDriver::Systemd {
            return;
        }
        let path = join(&self.base, &parts(qos::class(pod), pod::uid(pod)).join("/"));
        let made = match self.version {
            Version::V2 => self.ensure_v2(&path, &pod_limits(pod)),
            Version::V1 => self.ensure_v1(&path, &pod_limits(pod)),
        };
        if let Err(error) = made {
            tracing::warn!(pod = pod::display(pod), "the pod's cgroup has no limits of its own: {error:#}");
        }
    }

    fn ensure_v1(&self, path: &str, limits: &PodLimits) -> anyhow::Result<()> {
        for controller in ["cpu", "memory", "pids", "cpuset", "cpuacct", "devices", "blkio", "freezer"] {
            let hierarchy = self.root.join(controller);
            if hierarchy.is_dir() {
                make_v1(&hierarchy, path, controller == "cpuset")?;
            }
        }
        let cpu = self.root.join("cpu").join(path);
        if cpu.is_dir() {
            put(&cpu, "cpu.shares", limits.cpu_shares)?;
            if cpu.join("cpu.cfs_quota_us").exists() {
                put(&cpu, "cpu.cfs_period_us", CPU_PERIOD)?;
                put(&cpu, "cpu.cfs_quota_us", limits.cpu_quota.unwrap_or(-1))?;
            }
        }
        let memory = self.root.join("memory").join(path);
        match limits.memory {
            Some(bytes) if memory.is_dir() => put(&memory, "memory.limit_in_bytes", bytes),
            _ => Ok(()),
        }
    }

    fn ensure_v2(&self, path: &str, limits: &PodLimits) -> anyhow::Result<()> {
        let mut here = self.root.clone();
        for part in Path::new(path).components() {
            delegate(&here);
            here.push(part);
            fs::create_dir_all(&here).with_context(|| format!("making {}", here.display()))?;
        }
        delegate(&here);
        put(&here, "cpu.weight", weight(limits.cpu_shares))?;
        let quota = limits.cpu_quota.map_or_else(|| "max".into(), |quota| quota.to_string());
        put(&here, "cpu.max", format!("{quota} {CPU_PERIOD}"))?;
        put(&here, "memory.max", limits.memory.map_or_else(|| "max".into(), |bytes| bytes.to_string()))
    }

    /// Removes the pod's cgroups; one that is still in use stays, and the next start tries again.
    pub fn remove(&self, uid: &str) {
        if !self.per_qos || self.driver == CgroupDriver::Systemd {
            return;
        }
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let path = join(&self.base, &parts(class, uid).join("/"));
            for hierarchy in self.hierarchies() {
                remove_empty(&hierarchy.join(&path));
            }
        }
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        match self.version {
            Version::V2 => vec![self.root.clone()],
            Version::V1 => fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
        }
    }
}

/// `kubepods`, the class's level (guaranteed pods have none), the pod's.
fn parts(class: Class, uid: &str) -> Vec<String> {
    let level = match class {
        Class::Guaranteed => None,
        Class::Burstable => Some("burstable".to_string()),
        Class::BestEffort => Some("besteffort".to_string()),
    };
    std::iter::once("kubepods".to_string()).chain(level).chain([format!("pod{uid}")]).collect()
}

fn join(base: &str, path: &str) -> String {
    if base.is_empty() { path.into() } else { format!("{base}/{path}") }
}

/// A cpuset has to be given cpus and memory nodes before anything may live in it.
fn make_v1(hierarchy: &Path, path: &str, cpuset: bool) -> anyhow::Result<()> {
    let mut here = hierarchy.to_path_buf();
    for part in Path::new(path).components() {
        let parent = here.clone();
        here.push(part);
        fs::create_dir_all(&here).with_context(|| format!("making {}", here.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|_| cpuset) {
            let own = fs::read_to_string(here.join(file)).unwrap_or_default();
            if own.trim().is_empty() {
                fs::write(here.join(file), fs::read_to_string(parent.join(file)).unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

/// Hands the controllers down; one that the kernel refuses is simply not there below.
fn delegate(dir: &Path) {
    for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io", "+hugetlb"] {
        let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
    }
}

fn put(dir: &Path, file: &str, value: impl ToString) -> anyhow::Result<()> {
    fs::write(dir.join(file), value.to_string()).with_context(|| format!("writing {}", dir.join(file).display()))
}

/// cpu.shares to cpu.weight: upstream's quadratic mapping (KEP-2570's successor in runc), so that 1024 shares are 100.
fn weight(shares: i64) -> i64 {
    let shares = shares.clamp(2, 262_144);
    let log = (shares as f64).log2();
    10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as i64
}

fn remove_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    #[test]
    fn parents_are_named_as_upstream_names_them() {
        let pod = Pod { metadata: ObjectMeta { uid: Some("1-2".into()), ..ObjectMeta::default() }, ..Pod::default() };
        let of = |driver, base: &str| Cgroups::new(driver, base, true).parent(&pod);
        assert_eq!(of(CgroupDriver::Cgroupfs, "/"), "/kubepods/besteffort/pod1-2");
        assert_eq!(of(CgroupDriver::Cgroupfs, "/own"), "/own/kubepods/besteffort/pod1-2");
        assert_eq!(of(CgroupDriver::Systemd, "/"), "kubepods-besteffort-pod1_2.slice");
    }

    #[test]
    fn weights_are_quadratic() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
    }
}
