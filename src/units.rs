//! Which cgroup driver is used, and the units of systemd's that pods leave.
//!
//! Must not know: who made them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pintle_cri::CgroupDriver;
use pintle_systemd::{Systemd, is_running};

use crate::reset;

/// Above all pods, under the systemd driver; upstream's name, of the unit and of its cgroup.
const PODS: &str = "kubepods.slice";

/// A driver by its name, in upstream's words.
///
/// # Errors
/// Neither of the two.
pub fn driver(name: &str) -> Result<CgroupDriver, String> {
    match name {
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        "systemd" => Ok(CgroupDriver::Systemd),
        other => Err(format!("{other:?} is neither \"cgroupfs\" nor \"systemd\"")),
    }
}

/// Stops the slices of pods that are gone; their names. Those of a kubelet that still has pods stay.
pub fn stop_slices() -> anyhow::Result<Vec<String>> {
    if !is_running() {
        return Ok(Vec::new());
    }
    let root = Path::new("/sys/fs/cgroup");
    let mut systemd = Systemd::connect()?;
    let mut slices = systemd.units("kubepods*.slice")?;
    if slices.is_empty() || is_populated(root) {
        return Ok(Vec::new());
    }
    // the innermost first, so that each stop is for one alone
    slices.sort_by_key(|slice| std::cmp::Reverse(slice.len()));
    for slice in &slices {
        systemd.stop(slice)?;
    }
    // of v1 systemd removes what it minds
    pods(root).iter().filter(|dir| dir.is_dir()).try_for_each(|dir| reset::remove_cgroup(dir))?;
    Ok(slices)
}

/// The folder of the pods' slice in every hierarchy, there or not.
fn pods(root: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let hierarchies: Vec<PathBuf> = match root.join("cgroup.controllers").exists() {
        true => vec![root.to_owned()],
        false => below.filter(|dir| dir.join("cgroup.procs").exists()).collect(),
    };
    hierarchies.into_iter().map(|hierarchy| hierarchy.join(PODS)).collect()
}

/// Whether a process lives below the pods' slice, in any hierarchy.
fn is_populated(root: &Path) -> bool {
    pods(root).iter().any(|dir| has_processes(dir))
}

fn has_processes(dir: &Path) -> bool {
    // one that is divided by threads does not tell
    let own = match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(processes) => !processes.trim().is_empty(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    };
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut cgroups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own || cgroups.any(|cgroup| has_processes(&cgroup.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod's cgroup below a hierarchy.
    fn write(hierarchy: &Path, processes: &str) {
        let pod = hierarchy.join(PODS).join("kubepods-podX.slice");
        fs::create_dir_all(&pod).unwrap();
        fs::write(hierarchy.join("cgroup.procs"), "1\n").unwrap();
        fs::write(hierarchy.join(PODS).join("cgroup.procs"), "").unwrap();
        fs::write(pod.join("cgroup.procs"), processes).unwrap();
    }

    #[test]
    fn slices_with_processes_are_seen_in_v2() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        assert!(!is_populated(root.path()), "no slice");
        write(root.path(), "");
        assert!(!is_populated(root.path()));
        write(root.path(), "7\n");
        assert!(is_populated(root.path()));
    }

    #[test]
    fn slices_with_processes_are_seen_in_any_hierarchy_of_v1() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("cpuset"), "");
        write(&root.path().join("systemd"), "");
        assert!(!is_populated(root.path()));
        write(&root.path().join("cpuset"), "7\n");
        assert!(is_populated(root.path()));
        assert_eq!(pods(root.path()).len(), 2);
    }
}
