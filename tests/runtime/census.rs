//! What a machine holds: processes, mounts, links, cgroups, files, packet rules. Two counts that are equal mean that
//! nothing was left behind between them.
//!
//! Must not know: any story, the runtime's calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::hierarchies;

/// Where the runtime and its network keep files.
const KEPT: [&str; 3] = ["/run/pintle", "/var/lib/pintle", "/var/lib/cni"];
/// Pods' own cgroups are a kubelet's; the stories' are all below this one.
const PODS: &str = "stories";

/// In the names of what the runtime takes away behind everybody's back: folders, and the links and addresses of pods.
const LEAVING: [&str; 3] = [".removed", "/cni/", "link veth"];

/// Filters of system calls that are kept for containers to come, a bounded number of them.
const FILTERS: &str = "launch.filters";

/// A line per thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census(BTreeSet<String>);

impl Census {
    /// Counts; `runtime` is the process that comes and goes.
    pub fn take(runtime: u32) -> Self {
        remove_pod_cgroups();
        let mut all = BTreeSet::new();
        all.extend(processes(runtime));
        all.extend(mounts());
        all.extend(names("/sys/class/net").map(|name| format!("link {name}")));
        all.extend(rules());
        KEPT.iter().for_each(|dir| {
            walk(Path::new(dir), &mut |path| {
                if !path.contains(FILTERS) {
                    all.insert(format!("file {path}"));
                }
            })
        });
        for hierarchy in hierarchies::all() {
            walk(&hierarchy.mounted, &mut |path| {
                if Path::new(path).is_dir() {
                    all.insert(format!("cgroup {path}"));
                }
            });
        }
        Self(all)
    }

    /// What is there beyond, and what is missing, a line each.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let more = self.0.difference(&before.0).map(|line| format!("+ {line}"));
        // on their way out at the first count
        let leaving = |line: &str| LEAVING.iter().any(|it| line.contains(it));
        let less = before.0.difference(&self.0).filter(|line| !leaving(line));
        more.chain(less.map(|line| format!("- {line}"))).collect()
    }
}

/// As the kubelet does once a pod is gone; one that a container still lives in stays, and is counted.
fn remove_pod_cgroups() {
    for hierarchy in hierarchies::all() {
        let pods = hierarchy.mounted.join(PODS);
        names(&pods).for_each(|pod| drop(fs::remove_dir(pods.join(pod))));
        let _ = fs::remove_dir(pods);
    }
}

fn processes(runtime: u32) -> Vec<String> {
    let own = std::process::id();
    let pids = names("/proc").filter_map(|name| name.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != own && *pid != runtime && !is_reaped_soon(*pid));
    // one that ended meanwhile has no command line
    let lines = others.filter_map(|pid| Some((pid, fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)));
    lines.map(|(pid, stat)| format!("process {pid} {}", described(pid, &stat))).collect()
}

/// It has ended, and its parent is the machine's first process, which will notice.
fn is_reaped_soon(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z 1 "))
}

fn described(pid: u32, stat: &str) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    match line.is_empty() {
        false => line.replace('\0', " ").trim_end().to_owned(),
        true => stat.split(')').next().unwrap_or_default().to_owned(),
    }
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    table.lines().filter_map(|line| Some(format!("mount {}", line.split(' ').nth(4)?))).collect()
}

fn rules() -> Vec<String> {
    let listed = Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
    String::from_utf8_lossy(&listed.stdout).lines().map(|line| format!("rule {}", line.trim())).collect()
}

fn names(dir: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Visits what is below a folder; a link is not followed, and another mount's content is not the folder's.
fn walk(dir: &Path, visit: &mut impl FnMut(&str)) {
    for name in names(dir) {
        let path = dir.join(name);
        visit(&path.to_string_lossy());
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            walk(&path, visit);
        }
    }
}
