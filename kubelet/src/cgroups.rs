//! The cgroups above containers: `kubepods`, a level per QoS class, one per pod. v2, v1 and hybrid hosts; a host that
//! refuses is warned about and the pod runs without the limit of its own cgroup.
//!
//! Under the systemd driver they are its slices, and what it does not mind of them in hierarchies of v1 is made here.
//!
//! Must not know: containers (the runtime makes theirs below the pod's).

mod slices;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use pintle_cri::v1::HugepageLimit;

use crate::config::CgroupDriver;
use crate::plan::pod;
use crate::plan::qos::{self, Class};
use crate::plan::resources::{CPU_PERIOD, NodeFacts, PodLimits, pod_limits, shares, weight};
use slices::Setting;

const ROOT: &str = "/sys/fs/cgroup";
const PODS: &str = "kubepods";
const BURSTABLE: &str = "kubepods/burstable";
const BEST_EFFORT: &str = "kubepods/besteffort";
const CLASSES: [Class; 3] = [Class::Guaranteed, Class::Burstable, Class::BestEffort];
/// From then on an empty cgroup is not somebody's who is about to use it.
const OLD: Duration = Duration::from_secs(60);

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
    /// Processes that a pod may have.
    pids: Option<i64>,
    version: Version,
    root: PathBuf,
    page_sizes: Vec<String>,
}

impl Cgroups {
    /// `base` is the parent of `kubepods`.
    pub fn new(driver: CgroupDriver, base: &str, per_qos: bool, pids: Option<i64>) -> Self {
        let root = PathBuf::from(ROOT);
        let version = if root.join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 };
        let base = base.trim_matches('/').into();
        let page_sizes = if limits_huge_pages(&root, version) { page_sizes() } else { Vec::new() };
        Self { driver, base, per_qos, pids, version, root, page_sizes }
    }

    /// What containers' settings depend on; `oom_group`: whether the OOM killer shall take all of a container.
    pub fn facts(&self, memory: i64, oom_group: bool) -> NodeFacts {
        let v2 = self.version == Version::V2;
        // the root has no such file, any cgroup below has
        let counts_swap = v2 && self.root.join(self.path(PODS)).join("memory.swap.max").exists();
        NodeFacts { memory, page_sizes: self.page_sizes.clone(), oom_group: v2 && oom_group, counts_swap }
    }

    /// Makes `kubepods` with what pods may have together (cpu in thousandths, memory in bytes), and the levels of the
    /// classes: best-effort pods get what nobody else wants. Source: upstream's node and QoS container managers.
    pub fn enforce_node_allocatable(&self, cpu: i64, memory: i64) {
        if !self.per_qos {
            return;
        }
        let levels = [(PODS, shares(cpu), Some(memory)), (BURSTABLE, shares(0), None), (BEST_EFFORT, shares(0), None)];
        for (level, shares, memory) in levels {
            if let Err(error) = self.set_level(level, shares, memory) {
                tracing::warn!("cgroup {level} is not set: {error:#}");
            }
        }
    }

    /// Gives the burstable level the weight of what its pods ask for.
    pub fn weigh_burstable(&self, shares: i64) {
        if self.per_qos
            && let Err(error) = self.set_level(BURSTABLE, shares, None)
        {
            tracing::warn!("cgroup {BURSTABLE} does not get the weight of its pods: {error:#}");
        }
    }

    /// The levels of a path below `base`, from the root on.
    fn levels(&self, path: &str) -> Vec<String> {
        join(&self.base, path).split('/').map(str::to_owned).collect()
    }

    /// Where the driver has a cgroup, below the root.
    fn path(&self, path: &str) -> String {
        match self.driver {
            CgroupDriver::Cgroupfs => join(&self.base, path),
            CgroupDriver::Systemd => slices::path(&self.levels(path)),
        }
    }

    fn set_level(&self, level: &str, shares: i64, memory: Option<i64>) -> anyhow::Result<()> {
        let (weight, limit) = match self.version {
            Version::V2 => (setting("cpu.weight", weight(shares)), "memory.max"),
            Version::V1 => (setting("cpu.shares", shares), "memory.limit_in_bytes"),
        };
        let limit = memory.map(|bytes| setting(limit, bytes));
        self.set(level, std::iter::once(weight).chain(limit).collect())
    }

    /// Makes a cgroup that is not there, and gives it what the kernel has files for.
    fn set(&self, path: &str, mut settings: Vec<Setting>) -> anyhow::Result<()> {
        if self.driver == CgroupDriver::Systemd {
            slices::ensure(&slices::name(&self.levels(path)), &mut settings)?;
        }
        let path = self.path(path);
        match self.version {
            Version::V2 => self.make_v2(&path)?,
            Version::V1 => self.make_all_v1(&path)?,
        }
        settings.iter().try_for_each(|(file, value)| {
            let here = self.hierarchy_of(file).join(&path);
            match self.version == Version::V1 || file.starts_with("hugetlb.") || asks_nothing(file, value) {
                true => put_where_it_is(&here, file, value),
                false => put(&here, file, value),
            }
        })
    }

    /// The mount of the hierarchy that has a file.
    fn hierarchy_of(&self, file: &str) -> PathBuf {
        match self.version {
            Version::V2 => self.root.clone(),
            Version::V1 => self.root.join(file.split('.').next().unwrap_or_default()),
        }
    }

    /// The pod's cgroup as the runtime takes it in `cgroup_parent`.
    pub fn parent(&self, pod: &Pod) -> String {
        if !self.per_qos {
            return String::new();
        }
        format!("/{}", self.path(&parts(qos::class(pod), pod::uid(pod)).join("/")))
    }

    /// What the pod's cgroup is to be given.
    pub fn limits(&self, pod: &Pod) -> PodLimits {
        PodLimits { pids: self.pids, ..pod_limits(pod, &self.page_sizes) }
    }

    /// Makes the pod's cgroup and sets its limits.
    ///
    /// # Errors
    /// The kernel or systemd refuses.
    pub fn ensure(&self, pod: &Pod, limits: &PodLimits) -> anyhow::Result<()> {
        if !self.per_qos {
            return Ok(());
        }
        let path = parts(qos::class(pod), pod::uid(pod)).join("/");
        let settings = match self.version {
            Version::V2 => settings_v2(limits),
            Version::V1 => settings_v1(limits),
        };
        self.set(&path, settings)
    }

    fn make_all_v1(&self, path: &str) -> anyhow::Result<()> {
        for controller in ["cpu", "memory", "pids", "cpuset", "cpuacct", "devices", "blkio", "freezer", "hugetlb"] {
            let hierarchy = self.root.join(controller);
            // systemd may leave a folder where it could not mount one
            if hierarchy.join("cgroup.procs").exists() {
                make_v1(&hierarchy, path, controller == "cpuset")?;
            }
        }
        Ok(())
    }

    fn make_v2(&self, path: &str) -> anyhow::Result<()> {
        let mut here = self.root.clone();
        for part in Path::new(path).components() {
            delegate(&here);
            here.push(part);
            fs::create_dir_all(&here).with_context(|| format!("making {}", here.display()))?;
        }
        delegate(&here);
        Ok(())
    }

    /// Removes the pod's cgroups.
    ///
    /// # Errors
    /// One is still in use, or systemd does not stop its slice.
    pub fn remove(&self, uid: &str) -> anyhow::Result<()> {
        if !self.per_qos {
            return Ok(());
        }
        let paths = CLASSES.map(|class| parts(class, uid).join("/"));
        if self.driver == CgroupDriver::Systemd {
            slices::stop(&paths.each_ref().map(|path| slices::name(&self.levels(path))))?;
        }
        let all = self.hierarchies();
        let mut dirs = paths.iter().flat_map(|path| all.iter().map(|one| one.join(self.path(path))));
        dirs.try_for_each(|dir| remove_empty(&dir))
    }

    /// Removes the empty cgroups of pods that are not among `living`, and have been there for a minute: what somebody
    /// makes just now is not yet anybody's who could be asked. Those of a pod with processes stay.
    pub fn sweep(&self, living: &HashSet<String>) {
        if !self.per_qos {
            return;
        }
        for uid in self.left().into_iter().filter(|uid| !living.contains(uid)) {
            match self.remove(&uid) {
                Ok(()) => tracing::info!(uid, "removed the empty cgroup of a pod that is gone"),
                Err(error) => tracing::warn!(uid, "the cgroup of a pod that is gone stays: {error:#}"),
            }
        }
    }

    /// The UIDs of pods whose cgroups are old and empty, by folder, and by slice: systemd keeps some without a folder.
    fn left(&self) -> BTreeSet<String> {
        let hierarchies = self.hierarchies();
        let mut all = BTreeSet::new();
        for level in [PODS, BURSTABLE, BEST_EFFORT].map(|level| self.path(level)) {
            let dirs =
                hierarchies.iter().flat_map(|one| fs::read_dir(one.join(&level)).into_iter().flatten().flatten());
            let names: BTreeSet<String> = dirs.map(|dir| dir.file_name().to_string_lossy().into_owned()).collect();
            // systemd removes of v1 what it does not need, and a hierarchy may lack what another has
            let is_left = |name: &str| {
                let dirs = hierarchies.iter().map(|one| one.join(&level).join(name));
                dirs.filter(|dir| dir.is_dir()).all(|dir| is_old_and_empty(&dir))
            };
            let old = names.iter().filter(|name| is_left(name));
            all.extend(old.filter_map(|name| uid_of(name)));
        }
        if self.driver == CgroupDriver::Systemd {
            let slices = slices::of_pods(&self.levels(PODS)).unwrap_or_default().into_iter();
            let bare = slices.filter(|slice| !hierarchies.iter().any(|one| one.join(slices::path_of(slice)).exists()));
            all.extend(bare.filter_map(|slice| uid_of(&slice)));
        }
        all
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        match self.version {
            Version::V2 => vec![self.root.clone()],
            Version::V1 => fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
        }
    }
}

/// A pod's settings under v1.
fn settings_v1(limits: &PodLimits) -> Vec<Setting> {
    let pages = |one: &HugepageLimit| setting(&format!("hugetlb.{}.limit_in_bytes", one.page_size), one.limit);
    let mut all = vec![setting("cpu.shares", limits.cpu_shares), setting("cpu.cfs_period_us", CPU_PERIOD)];
    all.push(setting("cpu.cfs_quota_us", limits.cpu_quota.unwrap_or(-1)));
    all.extend(limits.hugepages.iter().map(pages));
    all.extend(limits.pids.map(|pids| setting("pids.max", pids)));
    all.extend(limits.memory.map(|bytes| setting("memory.limit_in_bytes", bytes)));
    all
}

/// A pod's settings under v2.
fn settings_v2(limits: &PodLimits) -> Vec<Setting> {
    let pages = |one: &HugepageLimit| setting(&format!("hugetlb.{}.max", one.page_size), one.limit);
    let or_max = |value: Option<i64>| value.map_or_else(|| "max".into(), |value| value.to_string());
    let mut all: Vec<Setting> = limits.hugepages.iter().map(pages).collect();
    all.push(setting("cpu.weight", weight(limits.cpu_shares)));
    all.push(setting("cpu.max", format!("{} {CPU_PERIOD}", or_max(limits.cpu_quota))));
    all.push(setting("memory.max", or_max(limits.memory)));
    all.extend(limits.pids.map(|pids| setting("pids.max", pids)));
    all
}

fn setting(file: &str, value: impl ToString) -> Setting {
    (file.to_owned(), value.to_string())
}

/// Whether a cgroup of v2 is so without the setting: a pod that asks for nothing runs where a controller is not there.
fn asks_nothing(file: &str, value: &str) -> bool {
    value.starts_with("max") || (file, value) == ("cpu.weight", "1")
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
    // all but the node's first pod find the levels above
    if !cpuset && fs::create_dir(hierarchy.join(path)).is_ok() {
        return Ok(());
    }
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

/// As `put`, but a kernel without the controller is left alone.
fn put_where_it_is(dir: &Path, file: &str, value: impl ToString) -> anyhow::Result<()> {
    if dir.join(file).exists() { put(dir, file, value) } else { Ok(()) }
}

/// Whether cgroups count huge pages. Where they do not, a runtime that is asked to limit them may refuse to make the
/// container (CRI-O with runc, where hugetlb has no hierarchy), and nobody could keep the limit.
fn limits_huge_pages(root: &Path, version: Version) -> bool {
    match version {
        Version::V1 => root.join("hugetlb").is_dir(),
        Version::V2 => fs::read_to_string(root.join("cgroup.controllers"))
            .is_ok_and(|there| there.split_whitespace().any(|controller| controller == "hugetlb")),
    }
}

/// The kernel's sizes of huge pages as cgroups name them, `2MB`.
fn page_sizes() -> Vec<String> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(size_name).collect()
}

fn size_name(kilobytes: u64) -> String {
    match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes >> 10),
        _ => format!("{}GB", kilobytes >> 20),
    }
}

fn remove_empty(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| dir.display().to_string()),
        _ => Ok(()),
    }
}

/// The pod's UID of `pod1-2`, or of a slice `…-pod1_2.slice`.
fn uid_of(name: &str) -> Option<String> {
    match name.strip_suffix(".slice") {
        Some(slice) => Some(slice.rsplit('-').next()?.strip_prefix("pod")?.replace('_', "-")),
        None => name.strip_prefix("pod").map(str::to_owned),
    }
    .filter(|uid| !uid.is_empty())
}

fn is_old_and_empty(dir: &Path) -> bool {
    let made = fs::metadata(dir).and_then(|found| found.modified()).ok().and_then(|made| made.elapsed().ok());
    made.is_some_and(|age| age > OLD) && is_empty(dir)
}

/// Neither a process nor another cgroup.
fn is_empty(dir: &Path) -> bool {
    let processes = fs::read_to_string(dir.join("cgroup.procs"));
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let inner = entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    processes.is_ok_and(|processes| processes.trim().is_empty()) && !inner
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    #[test]
    fn parents_are_named_as_upstream_names_them() {
        let pod = Pod { metadata: ObjectMeta { uid: Some("1-2".into()), ..ObjectMeta::default() }, ..Pod::default() };
        let of = |driver, base: &str| Cgroups::new(driver, base, true, None).parent(&pod);
        assert_eq!(of(CgroupDriver::Cgroupfs, "/"), "/kubepods/besteffort/pod1-2");
        assert_eq!(of(CgroupDriver::Cgroupfs, "/own"), "/own/kubepods/besteffort/pod1-2");
        let path = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice";
        assert_eq!(of(CgroupDriver::Systemd, "/"), path);
        let below = of(CgroupDriver::Systemd, "/a-b");
        assert!(
            below.ends_with("/a_b-kubepods-besteffort-pod1_2.slice") && below.starts_with("/a_b.slice/"),
            "{below}"
        );
    }

    #[test]
    fn huge_pages_are_limited_where_cgroups_count_them() {
        let root = tempfile::tempdir().unwrap();
        assert!(!limits_huge_pages(root.path(), Version::V1) && !limits_huge_pages(root.path(), Version::V2));
        fs::create_dir(root.path().join("hugetlb")).unwrap();
        assert!(limits_huge_pages(root.path(), Version::V1));
        fs::write(root.path().join("cgroup.controllers"), "cpu io memory hugetlb pids\n").unwrap();
        assert!(limits_huge_pages(root.path(), Version::V2));
    }

    #[test]
    fn a_pods_cgroup_tells_its_uid() {
        for (name, uid) in [
            ("pod1-2", Some("1-2")),
            ("kubepods-burstable-pod1_2.slice", Some("1-2")),
            ("kubepods-pod7.slice", Some("7")),
            ("kubepods-burstable.slice", None),
            ("burstable", None),
            ("pod", None),
            ("cpu.max", None),
        ] {
            assert_eq!(uid_of(name).as_deref(), uid, "{name}");
        }
    }

    #[test]
    fn empty_cgroups_of_pods_that_are_gone_are_swept_once_they_are_old() {
        let root = tempfile::tempdir().unwrap();
        let mut cgroups = Cgroups::new(CgroupDriver::Cgroupfs, "/", true, None);
        cgroups.root = root.path().into();
        cgroups.version = Version::V2;
        let dir = |name: &str| root.path().join("kubepods/burstable").join(name);
        for name in ["podgone", "podnew", "podliving", "podbusy/inner"] {
            fs::create_dir_all(dir(name)).unwrap();
        }
        for name in ["podgone", "podliving", "podbusy"] {
            fs::write(dir(name).join("cgroup.procs"), "").unwrap();
            let old = std::time::SystemTime::now() - 2 * OLD;
            fs::File::open(dir(name)).unwrap().set_modified(old).unwrap();
        }
        fs::write(dir("podnew").join("cgroup.procs"), "").unwrap();
        assert_eq!(cgroups.left(), BTreeSet::from(["gone".to_owned(), "living".to_owned()]));
    }

    #[test]
    fn a_pods_settings_name_the_files_of_its_host() {
        let hugepages = vec![HugepageLimit { page_size: "2MB".into(), limit: 0 }];
        let limits = PodLimits { cpu_shares: 1024, cpu_quota: None, memory: Some(4096), pids: Some(99), hugepages };
        let shown =
            |all: Vec<Setting>| -> String { all.iter().map(|(file, value)| format!("{file}={value};")).collect() };
        assert_eq!(
            shown(settings_v2(&limits)),
            "hugetlb.2MB.max=0;cpu.weight=39;cpu.max=max 100000;memory.max=4096;pids.max=99;"
        );
        assert_eq!(
            shown(settings_v1(&limits)),
            "cpu.shares=1024;cpu.cfs_period_us=100000;cpu.cfs_quota_us=-1;hugetlb.2MB.limit_in_bytes=0;pids.max=99;\
             memory.limit_in_bytes=4096;"
        );
    }

    #[test]
    fn a_pod_that_asks_for_nothing_needs_no_controller_of_v2() {
        let root = tempfile::tempdir().unwrap();
        let mut cgroups = Cgroups::new(CgroupDriver::Cgroupfs, "/", true, None);
        cgroups.root = root.path().into();
        cgroups.version = Version::V2;
        let written = |pod: &str, cpu_shares, cpu_quota| {
            let limits = PodLimits { cpu_shares, cpu_quota, memory: None, pids: None, hugepages: Vec::new() };
            cgroups.set(pod, settings_v2(&limits)).unwrap();
            ["cpu.weight", "cpu.max", "memory.max"].map(|file| root.path().join(pod).join(file).exists())
        };
        assert_eq!(written("nothing", 2, None), [false; 3]);
        assert_eq!(written("something", 3, Some(5000)), [false, true, false]);
        assert_eq!(written("more", 1024, None), [true, false, false]);
    }

    #[test]
    fn a_cgroup_of_v1_is_swept_once_it_is_empty_in_every_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        let mut cgroups = Cgroups::new(CgroupDriver::Cgroupfs, "/", true, None);
        cgroups.root = root.path().into();
        cgroups.version = Version::V1;
        let place = |controller: &str, pod: &str, processes: &str| {
            let dir = root.path().join(controller).join("kubepods").join(pod);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.procs"), processes).unwrap();
            fs::File::open(dir).unwrap().set_modified(std::time::SystemTime::now() - 2 * OLD).unwrap();
        };
        place("cpu", "podgone", "");
        place("memory", "podgone", "");
        place("cpu", "podbusy", "");
        place("memory", "podbusy", "7\n");
        place("memory", "podhalf", "");
        assert_eq!(cgroups.left(), BTreeSet::from(["gone".to_owned(), "half".to_owned()]));
    }

    #[test]
    fn sizes_of_pages_are_named_as_the_kernels_files_are() {
        assert_eq!([64, 2048, 1 << 20].map(size_name), ["64KB", "2MB", "1GB"]);
    }
}
