//! A container's cgroups: one folder in every hierarchy the host has. A host of v2 has one hierarchy; one of v1 has many,
//! and a hybrid one beside them that of v2, by which systemd knows who is where.
//!
//! `plan` says which files get which values, `devices` who may open what; here is where they are written.
//! Must not know: the process that lives in them.

pub mod devices;
pub mod place;
pub mod plan;
mod program;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::report::Report;
use devices::Rule;
use plan::{Setting, Version};

const ROOT: &str = "/sys/fs/cgroup";
/// How often and how long a folder is waited for whose processes are ending: 10 s in all.
const REMOVALS: u32 = 1000;
const REMOVAL: Duration = Duration::from_millis(10);
/// How often one is made that goes before it is joined.
const TRIES: u32 = 5;

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Of v1: `cpu`, `memory`, `name=systemd`. Empty for that of v2.
    controllers: Vec<String>,
    mount: PathBuf,
}

impl Hierarchy {
    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// The cgroup of a container, in all hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroup {
    version: Version,
    hierarchies: Vec<Hierarchy>,
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at a path below the root of every hierarchy. Makes nothing.
    pub fn at(path: &Path) -> Result<Cgroup> {
        let unified = statfs(ROOT).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let (version, hierarchies) = if unified {
            (Version::V2, vec![Hierarchy { controllers: Vec::new(), mount: ROOT.into() }])
        } else {
            let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
            (Version::V1, hierarchies(&mounts))
        };
        ensure!(!hierarchies.is_empty(), "no cgroup hierarchy is mounted below {ROOT}");
        Ok(Cgroup { version, hierarchies, path: path.to_owned() })
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folders, each with its mount's name (`memory`; empty for v2).
    pub fn folders(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.folders_if(|_| true)
    }

    fn folders_if(&self, which: impl Fn(&Hierarchy) -> bool) -> impl Iterator<Item = (&str, PathBuf)> {
        self.hierarchies.iter().filter(move |hierarchy| which(hierarchy)).map(|hierarchy| {
            let name = hierarchy.mount.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            (name, self.folder(hierarchy))
        })
    }

    fn folder(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(self.path.strip_prefix("/").unwrap_or(&self.path))
    }

    fn folder_of(&self, controller: &str) -> Option<PathBuf> {
        match self.version {
            Version::V2 => self.hierarchies.first().map(|hierarchy| self.folder(hierarchy)),
            Version::V1 => self
                .hierarchies
                .iter()
                .find(|hierarchy| hierarchy.controllers.iter().any(|one| one == controller))
                .map(|hierarchy| self.folder(hierarchy)),
        }
    }

    /// A file's text in the folder that a controller's files are in; None where it cannot be read.
    pub fn text(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.folder_of(controller)?.join(file)).ok()
    }

    /// The folder in the hierarchy of v2: none on a host that has v1 alone.
    pub fn unified_folder(&self) -> Option<PathBuf> {
        self.hierarchies.iter().find(|one| one.is_unified()).map(|one| self.folder(one))
    }

    /// The folder by which systemd knows who is in it.
    pub fn folder_of_systemd(&self) -> Option<PathBuf> {
        self.unified_folder().or_else(|| self.folder_of("name=systemd"))
    }

    /// The folders of v1, as [`Cgroup::folders`].
    pub fn folders_v1(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.folders_if(|hierarchy| !hierarchy.is_unified())
    }

    /// Makes the folders, and passes controllers down to them.
    pub fn make(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let folder = self.folder(hierarchy);
            make_down(hierarchy, &folder, self.version)
                .with_context(|| format!("cannot make the cgroup {}", folder.display()))?;
        }
        Ok(())
    }

    /// Limits what the cgroup may use.
    pub fn limit(&self, settings: &[Setting], report: &Report) -> Result<()> {
        let mut again = Vec::new();
        for setting in settings {
            // a memory limit and its swap limit bound each other: whichever is refused goes second
            if let Err(error) = self.write(setting, report) {
                ensure!(setting.file.starts_with("memory."), "{error:#}");
                again.push(setting);
            }
        }
        again.into_iter().try_for_each(|setting| self.write(setting, report))
    }

    fn write(&self, setting: &Setting, report: &Report) -> Result<()> {
        let Some(folder) = self.folder_of(&setting.controller) else {
            ensure!(
                setting.may_lack,
                "this host has no cgroup controller {}, which {} needs",
                setting.controller,
                setting.file
            );
            report.warning(&format!("no cgroup controller {}: {} is not set", setting.controller, setting.file));
            return Ok(());
        };
        match write_existing(&folder.join(&setting.file), &setting.value) {
            Err(error) if error.kind() == ErrorKind::NotFound && setting.may_lack => {
                report.warning(&format!("this kernel has no {}: it is not set", setting.file));
                Ok(())
            }
            result => result.with_context(|| format!("cannot set {} to {:?}", setting.file, setting.value)),
        }
    }

    /// Lets its processes use the devices that `rules` allow, and no other.
    pub fn restrict_devices(&self, rules: &[Rule]) -> Result<()> {
        let folder = self.folder_of("devices").context("this host has no cgroup controller for devices")?;
        match self.version {
            Version::V1 => devices::lines(rules).into_iter().try_for_each(|(file, line)| {
                write_existing(&folder.join(file), &line).with_context(|| format!("cannot write {line:?} to {file}"))
            }),
            Version::V2 => {
                let cgroup = File::open(&folder).with_context(|| format!("cannot open {}", folder.display()))?;
                program::attach(cgroup.as_fd(), &program::assemble(rules))
            }
        }
    }

    /// Whether v2 lets no process live in it, since it passes controllers to cgroups below.
    pub fn passes_controllers(&self) -> bool {
        let file = self.folder_of("cgroup").map(|folder| folder.join("cgroup.subtree_control"));
        file.is_some_and(|file| fs::read_to_string(file).is_ok_and(|passed| !passed.trim().is_empty()))
    }

    /// Moves this process, which has one thread, into the cgroup in every hierarchy of v1.
    ///
    /// Through `tasks` and not `cgroup.procs`: a thread that moves itself needs not the lock of all forks and exits, for
    /// which the kernel waits milliseconds.
    ///
    /// systemd removes empty ones of controllers that its own units cease to need, at any moment: such a one is made again.
    pub fn join(&self) -> Result<()> {
        for hierarchy in self.hierarchies.iter().filter(|one| !one.is_unified()) {
            let folder = self.folder(hierarchy);
            let mut joined = write_existing(&folder.join("tasks"), "0");
            let mut more = 1..TRIES;
            while joined.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) && more.next().is_some() {
                joined = make_down(hierarchy, &folder, self.version)
                    .and_then(|()| write_existing(&folder.join("tasks"), "0"));
            }
            joined.with_context(|| format!("cannot join the cgroup {}", folder.display()))?;
        }
        Ok(())
    }

    /// Every process in it and below.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        if let Some((_, folder)) = self.folders().next() {
            walk(&folder, &mut |folder| {
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            });
        }
        found
    }

    /// Sends a signal to every process in it.
    pub fn signal_all(&self, signal: i32) {
        let at_once = self.version == Version::V2 && signal == libc::SIGKILL;
        let whole = self.folders().next().map(|(_, folder)| folder.join("cgroup.kill"));
        if at_once && whole.is_some_and(|file| write_existing(&file, "1").is_ok()) {
            return;
        }
        for pid in self.processes() {
            // SAFETY: takes numbers; the process is in our cgroup a moment ago.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Freezes or thaws every process in it, and waits until that is so.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let folder = self.folder_of("freezer").context("this host has no cgroup freezer")?;
        let (file, value) = match (self.version, frozen) {
            (Version::V2, _) => ("cgroup.freeze", if frozen { "1" } else { "0" }),
            (Version::V1, true) => ("freezer.state", "FROZEN"),
            (Version::V1, false) => ("freezer.state", "THAWED"),
        };
        write_existing(&folder.join(file), value).with_context(|| format!("cannot write {value} to {file}"))?;
        for _ in 0..REMOVALS {
            if self.frozen() == frozen {
                return Ok(());
            }
            sleep(REMOVAL);
        }
        bail!("the cgroup {} does not become {}", self.path.display(), if frozen { "frozen" } else { "thawed" })
    }

    /// Whether its processes are frozen.
    pub fn frozen(&self) -> bool {
        let Some(folder) = self.folder_of("freezer") else { return false };
        match self.version {
            Version::V1 => fs::read_to_string(folder.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN"),
            Version::V2 => fs::read_to_string(folder.join("cgroup.events"))
                .is_ok_and(|events| events.lines().any(|line| line == "frozen 1")),
        }
    }

    /// Removes the folders and those below, waiting a bounded time for processes that are ending.
    pub fn remove(&self) -> Result<()> {
        self.folders().try_for_each(|(_, folder)| remove(&folder))
    }
}

/// The hierarchies of v1 in a mountinfo, and the one of v2 that a hybrid host has beside them.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((place, system)) = line.split_once(" - ") else { continue };
        let Some(mount) = place.split(' ').nth(4) else { continue };
        let mut system = system.split(' ');
        let options = match system.next() {
            Some("cgroup") => system.nth(1).unwrap_or_default(),
            Some("cgroup2") => "",
            _ => continue,
        };
        if !mount.starts_with(ROOT) {
            continue;
        }
        let named = options.split(',').filter(|o| !matches!(*o, "" | "rw" | "ro" | "xattr" | "clone_children"));
        let controllers: Vec<String> = named.map(str::to_owned).collect();
        if !found.iter().any(|one| one.controllers == controllers) {
            found.push(Hierarchy { controllers, mount: mount.into() });
        }
    }
    found
}

/// Makes every folder from the hierarchy's root down to `folder`.
fn make_down(hierarchy: &Hierarchy, folder: &Path, version: Version) -> io::Result<()> {
    let below = folder.strip_prefix(&hierarchy.mount).unwrap_or(folder);
    let mut at = hierarchy.mount.clone();
    for part in below.components().filter(|part| matches!(part, Component::Normal(_))) {
        if version == Version::V2 {
            pass_controllers(&at);
        }
        let parent = at.clone();
        at.push(part);
        match fs::create_dir(&at) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if hierarchy.controllers.iter().any(|controller| controller == "cpuset") {
            inherit_cpuset(&parent, &at)?;
        }
    }
    Ok(())
}

/// Lets the children of a v2 folder have its controllers: one at a time, since one that cannot be passed spoils all.
fn pass_controllers(folder: &Path) {
    let there = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let passed = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in there.split_whitespace().filter(|one| !passed.split_whitespace().any(|other| other == *one)) {
        // a limit that then cannot be set says so by its own name
        let _ = write_existing(&folder.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

/// A new cpuset of v1 has no CPU and no memory node, and takes no process before it has.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(child.join(file))?.trim().is_empty() {
            write_existing(&child.join(file), fs::read_to_string(parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Writes in one write to a file of the kernel's, which is never made.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(folder);
}

fn remove(folder: &Path) -> Result<()> {
    for attempt in 0.. {
        walk(folder, &mut |folder| drop(fs::remove_dir(folder)));
        if !folder.exists() {
            break;
        }
        ensure!(attempt < REMOVALS, "the cgroup {} has processes that do not end", folder.display());
        // most are gone within the first millisecond
        sleep(REMOVAL.min(Duration::from_millis(1 << attempt.min(4))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_named_by_their_controllers() {
        let mounts = "30 29 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
                      33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      34 30 0:26 / /srv/other rw - cgroup cgroup rw,cpu,cpuacct\n";
        let found = hierarchies(mounts);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found[1].controllers, ["name=systemd"]);
        assert!(found[2].is_unified() && found[2].mount == Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn systemd_knows_processes_by_v2_where_there_is_one() {
        let cgroup = |mounts: &str| Cgroup {
            version: Version::V1,
            hierarchies: hierarchies(mounts),
            path: "/a.slice/b.scope".into(),
        };
        let legacy = "31 30 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n";
        let hybrid = format!("{legacy}33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let of = |mounts: &str| cgroup(mounts).folder_of_systemd().unwrap();
        assert_eq!(of(legacy), Path::new("/sys/fs/cgroup/systemd/a.slice/b.scope"));
        assert_eq!(of(&hybrid), Path::new("/sys/fs/cgroup/unified/a.slice/b.scope"));
        assert_eq!(cgroup(&hybrid).folders_v1().map(|(name, _)| name).collect::<Vec<_>>(), ["memory", "systemd"]);
        assert_eq!(cgroup(legacy).unified_folder(), None);
    }
}
