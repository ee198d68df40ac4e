//! Cgroups of containers as files: which processes are in them, ending those, and what was counted.
//!
//! Must not know: how limits are chosen.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_cri::CgroupDriver;

/// How long processes that were killed may take to leave.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// Where the kernel shows cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// The unified one alone.
    V2 { root: PathBuf },
    /// One per controller, hybrid machines included.
    V1 { root: PathBuf, controllers: Vec<String> },
}

impl Hierarchies {
    /// What is mounted at `root`, which is `/sys/fs/cgroup` on every machine.
    pub fn detect(root: &Path) -> Self {
        if root.join("cgroup.controllers").exists() {
            return Self::V2 { root: root.to_owned() };
        }
        let folders = fs::read_dir(root).into_iter().flatten().flatten();
        let usable = folders.filter(|folder| folder.path().join("cgroup.procs").exists());
        let names = usable.filter_map(|folder| folder.file_name().into_string().ok());
        Self::V1 { root: root.to_owned(), controllers: names.collect() }
    }

    /// # Errors
    /// This machine cannot have its cgroups made so.
    pub fn check(driver: CgroupDriver) -> anyhow::Result<()> {
        anyhow::ensure!(
            driver == CgroupDriver::Cgroupfs || pintle_systemd::is_running(),
            "systemd not running on this host, cannot use the systemd cgroup driver: use cgroupfs"
        );
        Ok(())
    }

    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2 { .. })
    }

    /// The folder of a cgroup that holds a controller's files.
    pub fn dir(&self, controller: &str, cgroup: &str) -> PathBuf {
        let below = cgroup.trim_start_matches('/');
        match self {
            Self::V2 { root } => root.join(below),
            Self::V1 { root, .. } => root.join(controller).join(below),
        }
    }

    /// Makes a cgroup in every hierarchy, ready to take processes; its folders.
    pub fn make(&self, cgroup: &str) -> anyhow::Result<Vec<PathBuf>> {
        let dirs = self.all_dirs(cgroup);
        for dir in &dirs {
            fs::create_dir_all(dir).with_context(|| format!("making cgroup {}", dir.display()))?;
            // v1's cpusets begin empty, and take no process then
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let (false, Ok(above)) = (self.is_v2(), fs::read(dir.with_file_name(file))) {
                    fs::write(dir.join(file), above).with_context(|| format!("setting {file} of {}", dir.display()))?;
                }
            }
        }
        Ok(dirs)
    }

    /// The folder of a cgroup in every hierarchy.
    fn all_dirs(&self, cgroup: &str) -> Vec<PathBuf> {
        match self {
            Self::V2 { .. } => vec![self.dir("", cgroup)],
            Self::V1 { controllers, .. } => controllers.iter().map(|name| self.dir(name, cgroup)).collect(),
        }
    }

    /// Those that are there.
    fn dirs(&self, cgroup: &str) -> Vec<PathBuf> {
        self.all_dirs(cgroup).into_iter().filter(|dir| dir.exists()).collect()
    }

    /// Kills every process in a cgroup and below, and waits until they are gone. Blocks.
    pub fn kill(&self, cgroup: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let pids = self.processes(cgroup);
            if pids.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(started.elapsed() < EMPTY_WITHIN, "processes of cgroup {cgroup} do not end: {pids:?}");
            self.kill_once(cgroup, &pids);
            // nothing tells when a process has left a v1 cgroup
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill_once(&self, cgroup: &str, pids: &[i32]) {
        let at_once = self.dir("", cgroup).join("cgroup.kill");
        if self.is_v2() && fs::write(at_once, "1").is_ok() {
            return;
        }
        for pid in pids {
            // it may have ended since
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }

    pub fn has_processes(&self, cgroup: &str) -> bool {
        !self.processes(cgroup).is_empty()
    }

    fn processes(&self, cgroup: &str) -> Vec<i32> {
        let mut found: Vec<i32> = self.dirs(cgroup).iter().flat_map(|dir| processes_below(dir)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Removes a cgroup that has no processes, and those below it. One that is not there is no error.
    pub fn remove(&self, cgroup: &str) -> anyhow::Result<()> {
        self.dirs(cgroup).iter().try_for_each(|dir| remove_dir(dir))
    }

    /// The file that counts processes of the cgroup that were killed for want of memory.
    pub fn memory_events(&self, cgroup: &str) -> PathBuf {
        let file = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        self.dir("memory", cgroup).join(file)
    }
}

/// The number after a key in lines of `key value`.
pub fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn processes_below(dir: &Path) -> Vec<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1).collect();
    pids.extend(children(dir).flat_map(|child| processes_below(&child)));
    pids
}

fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    for child in children(dir) {
        remove_dir(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing cgroup {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_files_are_read_by_the_whole_key() {
        let text = "low 0\noom 3\noom_kill 2\n";
        assert_eq!(value_of(text, "oom"), Some(3));
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "max"), None);
    }
    #[test]
    fn a_driver_that_this_machine_cannot_have_is_refused() {
        let refused = |driver| Hierarchies::check(driver).map_err(|error| error.to_string());
        assert_eq!(refused(CgroupDriver::Cgroupfs), Ok(()));
        match pintle_systemd::is_running() {
            true => assert_eq!(refused(CgroupDriver::Systemd), Ok(())),
            false => assert!(refused(CgroupDriver::Systemd).unwrap_err().contains("systemd not running on this host")),
        }
    }
}
