//! Which cgroup driver is used, and the units of systemd's that pods leave.
//!
//! Must not know: who made them.

use std::fs;
use std::path::Path;

use pintle_cri::CgroupDriver;
use pintle_systemd::{Systemd, is_running, names};

/// Above all pods, under the systemd driver; upstream's name.
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
    let mut systemd = Systemd::connect()?;
    let mut slices = systemd.units("kubepods*.slice")?;
    if slices.is_empty() || is_populated(Path::new("/sys/fs/cgroup")) {
        return Ok(Vec::new());
    }
    // the innermost first, so that each stop is for one alone
    slices.sort_by_key(|slice| std::cmp::Reverse(slice.len()));
    for slice in &slices {
        systemd.stop(slice)?;
    }
    Ok(slices)
}

/// Whether a process lives below the pods' slice. Of v1 each hierarchy would have to be asked, and the slices there are
/// somebody else's: they count as populated.
fn is_populated(root: &Path) -> bool {
    let dir = root.join(names::slice_path(PODS).unwrap_or_default().trim_start_matches('/'));
    match fs::read_to_string(dir.join("cgroup.events")) {
        Ok(events) => events.lines().any(|line| line == "populated 1"),
        Err(_) => !root.join("cgroup.controllers").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_with_processes_and_those_of_v1_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(is_populated(root.path()), "v1");
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        assert!(!is_populated(root.path()), "no slice");
        fs::create_dir(root.path().join(PODS)).unwrap();
        for (events, populated) in [("populated 1\nfrozen 0\n", true), ("populated 0\nfrozen 0\n", false)] {
            fs::write(root.path().join(PODS).join("cgroup.events"), events).unwrap();
            assert_eq!(is_populated(root.path()), populated);
        }
    }
}
