//! A container's cgroup as files, v1 and v2.
//!
//! Must not know: what is in the files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup in all hierarchies.
#[derive(Debug, PartialEq, Eq)]
pub struct Cgroup(Paths);

#[derive(Debug, PartialEq, Eq)]
enum Paths {
    V2(PathBuf),
    /// By controller; `None` where one path holds for all.
    V1(PathBuf, Option<HashMap<String, String>>),
}

impl Cgroup {
    /// The cgroup of this path in every hierarchy.
    pub fn at(path: &str) -> Self {
        let below = path.trim_start_matches('/');
        match unified() {
            true => Self(Paths::V2(Path::new(ROOT).join(below))),
            false => Self(Paths::V1(below.into(), None)),
        }
    }

    /// The cgroup that a process is in; `None` once it is gone.
    pub fn of_process(pid: u32) -> Option<Self> {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Some(read(&membership, unified()))
    }

    pub fn is_v2(&self) -> bool {
        matches!(self.0, Paths::V2(_))
    }

    /// The cgroup above it in every hierarchy; the root is its own.
    pub fn parent(self) -> Self {
        let above = |path: &str| path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        Self(match self.0 {
            Paths::V2(dir) => Paths::V2(dir.parent().filter(|above| above.starts_with(ROOT)).unwrap_or(&dir).into()),
            Paths::V1(below, None) => Paths::V1(below.parent().unwrap_or(Path::new("")).into(), None),
            Paths::V1(below, Some(paths)) => {
                Paths::V1(below, Some(paths.into_iter().map(|(name, path)| (name, above(&path))).collect()))
            }
        })
    }

    /// Where a file of it is, there or not.
    pub fn file(&self, controller: &str, file: &str) -> PathBuf {
        self.dir(controller).join(file)
    }

    fn dir(&self, controller: &str) -> PathBuf {
        match &self.0 {
            Paths::V2(dir) => dir.clone(),
            Paths::V1(below, None) => Path::new(ROOT).join(controller).join(below),
            Paths::V1(_, Some(paths)) => {
                Path::new(ROOT).join(controller).join(paths.get(controller).map_or("none", String::as_str))
            }
        }
    }

    /// A file's text; empty where there is none.
    pub fn text(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.file(controller, file)).unwrap_or_default()
    }

    pub fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file).trim().parse().ok()
    }

    /// The processes in it and below.
    pub fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        collect(&self.dir("pids"), &mut pids);
        pids
    }
}

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// `4:cpu,cpuacct:/pod/c` of a v1 hierarchy, `0::/pod/c` of v2.
fn read(membership: &str, unified: bool) -> Cgroup {
    if unified {
        let path = membership.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        return Cgroup(Paths::V2(Path::new(ROOT).join(path)));
    }
    let lines = membership.lines().filter_map(|line| line.split_once(':')?.1.split_once(":/"));
    let each = lines.flat_map(|(names, path)| names.split(',').map(move |name| (name.to_owned(), path.to_owned())));
    Cgroup(Paths::V1(PathBuf::new(), Some(each.filter(|(name, _)| !name.is_empty()).collect())))
}

fn collect(dir: &Path, pids: &mut Vec<i32>) {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(own.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.for_each(|folder| collect(&folder.path(), pids));
}

/// The number after a key in lines of `key value`.
pub fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_which_cgroups_it_is_in() {
        let hybrid = "11:memory:/pod/c\n4:cpu,cpuacct:/pod/d\n1:name=systemd:/\n0::/init\n";
        let cgroup = read(hybrid, false);
        assert_eq!(cgroup.dir("memory"), Path::new("/sys/fs/cgroup/memory/pod/c"));
        assert_eq!(cgroup.dir("cpuacct"), Path::new("/sys/fs/cgroup/cpuacct/pod/d"));
        assert_eq!(read("0::/pod/c\n", true), Cgroup(Paths::V2("/sys/fs/cgroup/pod/c".into())));
    }

    #[test]
    fn above_a_containers_cgroup_is_its_pods() {
        let hybrid = read("11:memory:/pod/c\n2:pids:/\n", false).parent();
        assert_eq!(hybrid.dir("memory"), Path::new("/sys/fs/cgroup/memory/pod"));
        assert_eq!(hybrid.dir("pids"), Path::new("/sys/fs/cgroup/pids/"));
        let unified = read("0::/pod/c\n", true).parent();
        assert_eq!(unified, Cgroup(Paths::V2("/sys/fs/cgroup/pod".into())));
        assert_eq!(unified.parent().parent(), Cgroup(Paths::V2("/sys/fs/cgroup".into())));
    }

    #[test]
    fn keyed_files_are_read_by_the_whole_key() {
        let text = "low 0\noom 3\noom_kill 2\n";
        assert_eq!(
            (value_of(text, "oom"), value_of(text, "oom_kill"), value_of(text, "max")),
            (Some(3), Some(2), None)
        );
    }
}
