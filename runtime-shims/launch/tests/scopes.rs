//! Containers whose cgroups are scopes of systemd's: only where systemd is the init, on cgroup v2, v1 and hybrid.

mod machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use machine::{Container, bad, good};
use pintle_systemd::{Systemd, names};
use serde_json::json;

/// A container in a slice of its own; stopped with it.
struct Scope {
    container: Container,
    slice: String,
}

impl Scope {
    /// None, with the reason printed, where systemd makes no cgroups.
    fn new() -> Option<Scope> {
        if !pintle_systemd::is_running() {
            eprintln!("skipped: systemd is not this machine's init");
            return None;
        }
        let mut container = Container::staying();
        let slice = names::slice([container.id.as_str()]);
        container.flags = vec!["--systemd-cgroup"];
        container.spec["linux"]["cgroupsPath"] = json!(format!("{slice}:test:{}", container.id));
        container.spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        container.spec["linux"]["resources"]["pids"] = json!(null);
        Some(Scope { container, slice })
    }

    fn unit(&self) -> String {
        format!("test-{}.scope", self.container.id)
    }

    /// Its folder in the hierarchy of a controller.
    fn cgroup(&self, controller: &str) -> PathBuf {
        let hierarchy = if pintle_systemd::is_unified() { "" } else { controller };
        Path::new("/sys/fs/cgroup").join(hierarchy).join(&self.slice).join(self.unit())
    }

    /// What a file holds, named as v1 names it, or else as v2 does.
    fn value(&self, v1: &str, v2: &str) -> String {
        let file = if pintle_systemd::is_unified() { v2 } else { v1 };
        let folder = self.cgroup(file.split('.').next().unwrap());
        fs::read_to_string(folder.join(file)).unwrap().trim().to_owned()
    }

    fn memory(&self) -> String {
        self.value("memory.limit_in_bytes", "memory.max")
    }

    /// The folders that are left of it, in any hierarchy.
    fn left(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).chain([root.to_owned()]);
        hierarchies.map(|one| one.join(&self.slice).join(self.unit())).filter(|dir| dir.exists()).collect()
    }

    fn is_loaded(&self) -> bool {
        !Systemd::connect().unwrap().units(&self.unit()).unwrap().is_empty()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = self.container.call(&["delete", "--force", &self.container.id]);
        let _ = Systemd::connect().and_then(|mut systemd| systemd.stop(&self.slice));
        // of v1 systemd removes what it minds
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(&self.slice));
        }
    }
}

fn reload() {
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
}

#[test]
fn a_scope_lives_as_long_as_its_container_and_keeps_its_limits() {
    let Some(scope) = Scope::new() else { return };
    let container = &scope.container;
    container.run();
    let member = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let place = format!(":/{}/{}", scope.slice, scope.unit());
    // v1 alone has a line of v2 too, though nothing is mounted of it
    let legacy = !pintle_systemd::is_unified() && !Path::new("/sys/fs/cgroup/unified").exists();
    let mut lines = member.lines().filter(|line| !(legacy && line.starts_with("0::")));
    assert!(lines.all(|line| line.ends_with(&place)), "{member}");
    assert_eq!(scope.value("pids.max", "pids.max"), "max", "nothing was asked");
    let only = fs::read_to_string(scope.cgroup("memory").join("cgroup.procs")).unwrap();
    assert_eq!(only.trim(), container.pid().to_string(), "nobody else is left in it");
    assert_eq!(scope.memory(), (64 << 20).to_string());
    reload();
    assert_eq!(scope.memory(), (64 << 20).to_string(), "a reload writes what systemd was told");
    let wanted = container.dir.path().join("wanted.json");
    fs::write(&wanted, json!({"memory": {"limit": 80 << 20}, "pids": {"limit": 33}}).to_string()).unwrap();
    good(&container.call(&["update", "--resources", wanted.to_str().unwrap(), &container.id]));
    reload();
    assert_eq!(scope.memory(), (80 << 20).to_string(), "an update is told to systemd too");
    assert_eq!(scope.value("pids.max", "pids.max"), "33");
    good(&container.call(&["delete", "--force", &container.id]));
    assert!(!scope.is_loaded());
    assert_eq!(scope.left(), Vec::<PathBuf>::new());
}

#[test]
fn shares_and_quotas_are_what_systemd_makes_of_them_and_stay_it() {
    let Some(mut scope) = Scope::new() else { return };
    scope.container.spec["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 12500, "period": 50000});
    let container = &scope.container;
    container.run();
    let shown = || match pintle_systemd::is_unified() {
        true => scope.value("", "cpu.max"),
        false => scope.value("cpu.cfs_quota_us", "") + " " + &scope.value("cpu.cfs_period_us", ""),
    };
    assert_eq!(shown(), "12500 50000");
    let wanted = container.dir.path().join("wanted.json");
    let odd =
        if pintle_systemd::is_unified() { json!({"quota": 6001, "period": 50000}) } else { json!({"quota": 6001}) };
    fs::write(&wanted, json!({"cpu": odd}).to_string()).unwrap();
    good(&container.call(&["update", "--resources", wanted.to_str().unwrap(), &container.id]));
    let shares = scope.value("cpu.shares", "cpu.weight");
    assert_eq!(shown(), "6500 50000", "hundredths of a CPU, rounded up");
    reload();
    assert_eq!(shown(), "6500 50000");
    assert_eq!(scope.value("cpu.shares", "cpu.weight"), shares);
}

#[test]
fn a_paused_container_of_a_scope_stays_so_over_a_reload() {
    let Some(scope) = Scope::new() else { return };
    let container = &scope.container;
    container.run();
    good(&container.call(&["pause", &container.id]));
    reload();
    let frozen = || match pintle_systemd::is_unified() {
        true => scope.value("", "cgroup.freeze") == "1",
        false => scope.value("freezer.state", "") == "FROZEN",
    };
    assert!(frozen());
    good(&container.call(&["resume", &container.id]));
    assert!(!frozen());
}

#[test]
fn that_the_oom_killer_takes_all_of_a_container_outlives_a_reload() {
    let Some(mut scope) = Scope::new().filter(|_| pintle_systemd::is_unified()) else { return };
    scope.container.spec["linux"]["resources"]["unified"] = json!({"memory.oom.group": "1"});
    scope.container.run();
    let group = || scope.value("", "memory.oom.group");
    assert_eq!(group(), "1");
    reload();
    assert_eq!(group(), "1", "a reload writes what systemd was told");
}

#[test]
fn devices_stay_forbidden_after_a_reload() {
    let Some(mut scope) = Scope::new() else { return };
    scope.container.spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]);
    let script = "until test -e /tmp/go; do sleep 0.1; done; mknod /tmp/mem c 1 1; mknod /tmp/null c 1 3; ls /tmp";
    scope.container.spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
    scope.container.run();
    reload();
    fs::write(scope.container.root().join("tmp/go"), "").unwrap();
    scope.container.wait_for_end();
    let seen = scope.container.output();
    assert!(seen.contains("mem: Operation not permitted") && seen.ends_with("go\nnull\n"), "{seen}");
}

#[test]
fn a_create_that_fails_leaves_no_scope() {
    let Some(mut scope) = Scope::new() else { return };
    scope.container.spec["process"]["args"] = json!(["/bin/none"]);
    assert!(bad(&scope.container.create()).contains("no such file or directory"));
    assert!(!scope.is_loaded());
    assert_eq!(scope.left(), Vec::<PathBuf>::new());
}

#[test]
fn without_systemd_the_driver_is_refused_with_the_reason() {
    if pintle_systemd::is_running() {
        return eprintln!("skipped: systemd runs here");
    }
    let mut container = Container::staying();
    container.flags = vec!["--systemd-cgroup"];
    container.spec["linux"]["cgroupsPath"] = json!(format!("a.slice:test:{}", container.id));
    let error = bad(&container.create());
    assert!(error.contains("systemd does not run on this machine"), "{error}");
    assert_eq!(fs::read_dir(container.dir.path().join("state")).unwrap().count(), 0);
}
