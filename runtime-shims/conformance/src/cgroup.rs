//! A pod's cgroup, as kubelets make it.
//!
//! Must not know: what runs in it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pintle_cri::v1;
use pintle_systemd::{Systemd, names};

use crate::bench::Bench;

/// A pod's cgroup in every hierarchy, made as kubelets do; removed again.
pub struct Parent {
    /// As `cgroup_parent` names it.
    name: String,
    dirs: Vec<PathBuf>,
    /// The slice, where systemd makes cgroups.
    slice: Option<String>,
}

impl Parent {
    /// # Errors
    /// They cannot be made.
    pub async fn make(bench: &Bench) -> anyhow::Result<Self> {
        if bench.shared.cgroup_driver == v1::CgroupDriver::Systemd {
            return Self::slice(bench);
        }
        let name = format!("/pintle-{}", bench.mark);
        let dirs = everywhere(&name)?;
        let mut made = Self { name, dirs: Vec::new(), slice: None };
        for dir in dirs {
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            made.dirs.push(dir);
        }
        Ok(made)
    }

    fn slice(bench: &Bench) -> anyhow::Result<Self> {
        let name = names::slice([format!("pintle-{}", bench.mark).as_str()]);
        Systemd::connect()?.ensure_slice(&name, &[])?;
        let path = names::slice_path(&name).context("a slice without a place")?;
        Ok(Self { dirs: everywhere(&path)?, name: path, slice: Some(name) })
    }

    /// The pod as one of this cgroup.
    pub fn of(&self, mut config: v1::PodSandboxConfig) -> v1::PodSandboxConfig {
        if let Some(linux) = config.linux.as_mut() {
            linux.cgroup_parent.clone_from(&self.name);
        }
        config
    }

    /// Whether a process is in a cgroup somewhere below the pod's.
    pub fn is_used(&self) -> bool {
        self.dirs.iter().any(|dir| has_process(dir))
    }
}

/// A cgroup's folder in every hierarchy.
fn everywhere(path: &str) -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies: Vec<PathBuf> = if root.join("cgroup.controllers").exists() {
        vec![root.into()]
    } else {
        let entries = std::fs::read_dir(root)?.flatten();
        entries.map(|one| one.path()).filter(|dir| dir.join("cgroup.procs").exists()).collect()
    };
    Ok(hierarchies.into_iter().map(|dir| dir.join(path.trim_start_matches('/'))).collect())
}

fn has_process(dir: &Path) -> bool {
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|one| one.path());
    below.filter(|path| path.is_dir()).any(|path| {
        std::fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| !text.is_empty()) || has_process(&path)
    })
}

/// From the leaves up; what is busy stays.
fn remove(dir: &Path) {
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|one| one.path());
    below.filter(|path| path.is_dir()).for_each(|path| remove(&path));
    let _ = std::fs::remove_dir(dir);
}

impl Drop for Parent {
    fn drop(&mut self) {
        if let Some(slice) = &self.slice {
            // what cannot be stopped is seen by who lists units, and by nobody here
            let _ = Systemd::connect().and_then(|mut systemd| systemd.stop(slice));
        }
        self.dirs.iter().for_each(|dir| remove(dir));
    }
}
