//! Where a container's cgroup is, and whether it is ours to make or a scope that systemd makes.
//!
//! systemd wants a process in a new scope and ends one that has none: until the init is there, a process of ours that
//! does nothing holds its place. Limits go to systemd as properties first, or it would take them back when it next writes
//! what it manages (`daemon-reload`); what it has no property for is written to the files alone, and in hierarchies of v1
//! that it does not mind (cpuset, freezer, net_cls and so on) the folders are ours to make.
//! Must not know: what is written to which file (`plan`).

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, pause};
use oci_spec::runtime::Spec;
use pintle_systemd::names::Scope;
use pintle_systemd::{Error, Property, Systemd, Value, from_cgroup_files, round_quotas};

use super::plan::{Setting, Version};
use super::{Cgroup, devices};
use crate::sys::clone::{Birth, Child, spawn};

const OOM_POLICY: &str = "OOMPolicy";
/// v1's two files of what is one limit.
const BANDWIDTH: [&str; 2] = ["cpu.cfs_period_us", "cpu.cfs_quota_us"];

/// A container's place in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Below the root of every hierarchy.
    pub path: PathBuf,
    /// The scope whose cgroup that is, under the systemd driver.
    pub scope: Option<Scope>,
}

impl Place {
    /// From `linux.cgroupsPath`: a path, or `slice:prefix:name` if `systemd`, as runc has it.
    ///
    /// # Errors
    /// The other driver's form; a path that leaves its root.
    pub fn of(spec: &Spec, id: &str, systemd: bool) -> Result<Place> {
        let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()).unwrap_or_default();
        let scope = asked.to_str().and_then(Scope::parse);
        match (scope, systemd) {
            (Some(scope), true) => Ok(Place { path: scope.path().into(), scope: Some(scope) }),
            (Some(_), false) => {
                bail!("the cgroup path {} is systemd's, and --systemd-cgroup is not given", asked.display())
            }
            (None, true) => {
                bail!("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {asked:?}")
            }
            (None, false) => Ok(Place { path: below_root(&asked, id)?, scope: None }),
        }
    }

    /// As [`Place::of`], of a container that another call began to make: the form tells the driver.
    pub fn found(spec: &Spec, id: &str) -> Result<Place> {
        Self::of(spec, id, true).or_else(|_| Self::of(spec, id, false))
    }
}

fn below_root(asked: &Path, id: &str) -> Result<PathBuf> {
    let asked = if asked.as_os_str().is_empty() { Path::new(id) } else { asked };
    let mut path = PathBuf::from("/");
    for part in asked.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)) {
        match part {
            Component::Normal(name) => path.push(name),
            _ => bail!("the cgroup path {} leaves its root", asked.display()),
        }
    }
    ensure!(path.file_name().is_some(), "a container cannot live in the root cgroup");
    Ok(path)
}

/// The process that holds a new scope's place; it ends with this.
#[derive(Debug)]
pub struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Has systemd make the scope, with limits. Nobody but the holder sees devices come and go meanwhile, for whose sake runc
/// freezes containers when it updates them: an update of ours tells nothing of devices.
pub fn start(scope: &Scope, cgroup: &Cgroup, settings: &[Setting], rules: &[devices::Rule]) -> Result<Holder> {
    let own = Pid::this();
    let child = spawn(Birth::default(), || {
        // the end of this call must not leave it behind
        if prctl::set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == own {
            pause();
        }
        0
    });
    let holder = Holder(child.context("cannot make a process for the scope")?);
    let pid = u32::try_from(holder.0.pid.as_raw()).context("a process without a number")?;
    let mut limits = from_cgroup_files(pairs(settings));
    // where nothing is asked, systemd's own default for services would bound the container
    if !limits.iter().any(|limit| limit.name == "TasksMax") {
        limits.extend(from_cgroup_files([("pids.max", "max")]));
    }
    if cgroup.version() == Version::V1 {
        limits.extend(devices::properties(rules));
    }
    start_scope(scope, pid, limits, settings).with_context(|| format!("unable to start unit {:?}", scope.unit))?;
    let folder = cgroup.folder_of_systemd().context("systemd's own cgroup hierarchy is not mounted")?;
    ensure!(folder.is_dir(), "systemd made the cgroup of {} elsewhere than at {}", scope.unit, cgroup.path().display());
    Ok(holder)
}

/// That the OOM killer takes all of a scope or one process is a property of its policy, which only a new scope can be
/// given: without it a reload takes `memory.oom.group` back. Older systemds have it for services alone.
fn start_scope(scope: &Scope, pid: u32, mut limits: Vec<Property>, settings: &[Setting]) -> Result<(), Error> {
    let mut systemd = Systemd::connect()?;
    let whole = settings.iter().rfind(|setting| setting.file == "memory.oom.group");
    if whole.is_none_or(|setting| setting.value.trim() != "1") {
        return systemd.start_scope(scope, &[pid], &limits);
    }
    limits.push(Property::new(OOM_POLICY, Value::Text("kill".into())));
    match systemd.start_scope(scope, &[pid], &limits) {
        Err(Error::Refused { text, .. }) if text.contains(OOM_POLICY) => {
            limits.pop();
            systemd.start_scope(scope, &[pid], &limits)
        }
        started => started,
    }
}

/// Changes what systemd holds to be the scope's limits, and `settings` to what it makes of them.
pub fn update(unit: &str, cgroup: &Cgroup, settings: &mut Vec<Setting>) -> Result<()> {
    if let Some(file) = other_of_bandwidth(settings)
        && let Some(value) = cgroup.text("cpu", file)
    {
        let (controller, value) = ("cpu".to_owned(), value.trim().to_owned());
        settings.push(Setting { controller, file: file.to_owned(), value, may_lack: false });
    }
    round(settings);
    let properties = from_cgroup_files(pairs(settings));
    Systemd::connect()?.set(unit, &properties).with_context(|| format!("unable to set properties of unit {unit:?}"))
}

/// Has systemd forget the scope, whose processes have ended.
pub fn stop(unit: &str) -> Result<()> {
    let mut systemd = Systemd::connect()?;
    systemd
        .stop(unit)
        .and_then(|()| systemd.reset_failed(unit))
        .with_context(|| format!("unable to stop unit {unit:?}"))
}

/// What systemd holds of the settings is what the files are to hold.
pub fn round(settings: &mut [Setting]) {
    round_quotas(settings.iter_mut().map(|setting| (setting.file.as_str(), &mut setting.value)));
}

fn pairs(settings: &[Setting]) -> impl Iterator<Item = (&str, &str)> {
    settings.iter().map(|setting| (setting.file.as_str(), setting.value.as_str()))
}

/// systemd holds a share of the CPU, which needs both files of v1: the one that is not set where only the other is.
fn other_of_bandwidth(settings: &[Setting]) -> Option<&'static str> {
    let is_set = |file: &&str| settings.iter().any(|setting| setting.file == **file);
    let (set, kept): (Vec<&'static str>, Vec<&'static str>) = BANDWIDTH.into_iter().partition(is_set);
    kept.first().copied().filter(|_| !set.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, systemd: bool) -> Result<Place, String> {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0", "linux": { "cgroupsPath": path } }))
        .unwrap();
        Place::of(&spec, "ID", systemd).map_err(|error| error.to_string())
    }

    #[test]
    fn each_driver_takes_its_own_form() {
        assert_eq!(place("/a/b", false).unwrap().path, Path::new("/a/b"));
        assert_eq!(place("", false).unwrap().path, Path::new("/ID"));
        let scope = place("a-b.slice:cri-pintle:ID", true).unwrap();
        assert_eq!(scope.path, Path::new("/a.slice/a-b.slice/cri-pintle-ID.scope"));
        assert_eq!(scope.scope.unwrap().unit, "cri-pintle-ID.scope");
        assert!(place("a.slice:p:n", false).unwrap_err().contains("--systemd-cgroup is not given"));
        assert!(place("/a/b", true).unwrap_err().contains("slice:prefix:name"));
        assert!(place("../x", false).unwrap_err().contains("leaves its root"));
        assert!(place("/", false).unwrap_err().contains("root cgroup"));
    }

    #[test]
    fn a_quota_goes_with_the_period_that_is_kept() {
        let set = |files: &[&str]| {
            let setting = |file: &&str| Setting {
                controller: "cpu".into(),
                file: (*file).into(),
                value: "1000".into(),
                may_lack: false,
            };
            other_of_bandwidth(&files.iter().map(setting).collect::<Vec<_>>())
        };
        assert_eq!(set(&["cpu.shares", "cpu.cfs_quota_us"]), Some("cpu.cfs_period_us"));
        assert_eq!(set(&["cpu.cfs_period_us"]), Some("cpu.cfs_quota_us"));
        assert_eq!((set(&BANDWIDTH), set(&["cpu.shares"]), set(&["cpu.max"])), (None, None, None));
    }
}
