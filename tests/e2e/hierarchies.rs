//! The cgroup hierarchies of this machine, v1 and v2, and a cgroup of our own in each, which is the root of all that the
//! stories' processes see.
//!
//! Must not know: what runs in them.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// One mounted hierarchy.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub mounted: PathBuf,
    pub v2: bool,
    /// v1: its controllers or name, as mount(2) wants them.
    options: String,
}

/// Every hierarchy that is mounted.
pub fn all() -> Vec<Hierarchy> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    table.lines().filter_map(parse).collect()
}

/// A line of mountinfo(5), where it is of a cgroup hierarchy.
fn parse(line: &str) -> Option<Hierarchy> {
    let (place, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let kind = system.next()?;
    let named = |it: &&str| !["rw", "ro", "xattr", "noprefix", "clone_children"].contains(it) && !it.contains('/');
    let options: Vec<&str> = system.nth(1)?.split(',').filter(named).collect();
    let mounted = PathBuf::from(place.split(' ').nth(4)?);
    let ours = kind == "cgroup" || kind == "cgroup2";
    ours.then(|| Hierarchy { mounted, v2: kind == "cgroup2", options: options.join(",") })
}

impl Hierarchy {
    /// Makes a cgroup of that name below the one we are in (v2: below the root, where controllers can be handed down).
    pub fn make(&self, name: &str) -> PathBuf {
        let dir = self.mounted.join(self.own()).join(name);
        fs::create_dir_all(&dir).expect("a cgroup of our own");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // v1's cpusets begin empty and take no process then
            if let Ok(inherited) = fs::read(dir.with_file_name(file)) {
                let _ = fs::write(dir.join(file), inherited);
            }
        }
        dir
    }

    /// v2: a cgroup below ours for the processes that are there from the beginning, for one that hands controllers down
    /// holds none itself.
    pub fn leaf(&self, ours: &Path) -> Option<PathBuf> {
        let leaf = ours.join("init");
        self.v2.then(|| fs::create_dir_all(&leaf).expect("a cgroup below our own"));
        self.v2.then_some(leaf)
    }

    fn own(&self) -> String {
        let table = fs::read_to_string("/proc/self/cgroup").expect("our cgroups");
        let ours = table.lines().filter(|_| !self.v2).find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            (controllers == self.options).then(|| path.trim_start_matches('/').to_owned())
        });
        ours.unwrap_or_default()
    }

    /// Mounts it at the same place once more: in a cgroup namespace, that shows the namespace's part alone.
    pub fn mount_again(&self) {
        fs::create_dir_all(&self.mounted).expect("a mount point");
        let kind = if self.v2 { "cgroup2" } else { "cgroup" };
        let options = (!self.v2).then_some(self.options.as_str());
        mount(Some(kind), &self.mounted, Some(kind), MsFlags::empty(), options).expect("a cgroup mount");
    }
}

/// Lets the root hand down all controllers, where v2 is all there is: beside v1, runtimes expect it to have none. It goes
/// on doing so, for others may have come to count on it.
pub fn hand_down(all: &[Hierarchy]) {
    let [Hierarchy { mounted, v2: true, .. }] = all else { return };
    let controllers = fs::read_to_string(mounted.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        // one by one: what cannot be handed down keeps no other back
        let _ = fs::write(mounted.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Removes a cgroup with all below it; what is busy stays, and is told.
pub fn remove(dir: &Path) {
    for busy in remaining(dir) {
        eprintln!("left behind: {busy}");
    }
}

/// Removes a cgroup with all below it; what is busy.
pub fn remaining(dir: &Path) -> Vec<String> {
    let mut busy = Vec::new();
    for child in fs::read_dir(dir).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            busy.extend(remaining(&child.path()));
        }
    }
    if let Err(error) = fs::remove_dir(dir) {
        busy.push(format!("{} ({error})", dir.display()));
    }
    busy
}
