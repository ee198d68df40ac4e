//! Containers whose cgroups are scopes of systemd's: only where systemd is the init, on cgroup v2.

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
        if !pintle_systemd::is_running() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            eprintln!("skipped: systemd is not this machine's init, or cgroups are not of v2");
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

    fn cgroup(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(&self.slice).join(self.unit())
    }

    fn memory(&self) -> String {
        fs::read_to_string(self.cgroup().join("memory.max")).unwrap().trim().to_owned()
    }

    fn is_loaded(&self) -> bool {
        !Systemd::connect().unwrap().units(&self.unit()).unwrap().is_empty()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = self.container.call(&["delete", "--force", &self.container.id]);
        let _ = Systemd::connect().and_then(|mut systemd| systemd.stop(&self.slice));
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
    assert_eq!(member.trim(), format!("0::/{}/{}", scope.slice, scope.unit()));
    let only = fs::read_to_string(scope.cgroup().join("cgroup.procs")).unwrap();
    assert_eq!(only.trim(), container.pid().to_string(), "nobody else is left in it");
    assert_eq!(scope.memory(), (64 << 20).to_string());
    assert_eq!(fs::read_to_string(scope.cgroup().join("pids.max")).unwrap().trim(), "max", "nothing was asked");
    reload();
    assert_eq!(scope.memory(), (64 << 20).to_string(), "a reload writes what systemd was told");
    let wanted = container.dir.path().join("wanted.json");
    fs::write(&wanted, json!({"memory": {"limit": 80 << 20}, "pids": {"limit": 33}}).to_string()).unwrap();
    good(&container.call(&["update", "--resources", wanted.to_str().unwrap(), &container.id]));
    reload();
    assert_eq!(scope.memory(), (80 << 20).to_string(), "an update is told to systemd too");
    assert_eq!(fs::read_to_string(scope.cgroup().join("pids.max")).unwrap().trim(), "33");
    good(&container.call(&["delete", "--force", &container.id]));
    assert!(!scope.is_loaded() && !scope.cgroup().exists());
}

#[test]
fn that_the_oom_killer_takes_all_of_a_container_outlives_a_reload() {
    let Some(mut scope) = Scope::new() else { return };
    scope.container.spec["linux"]["resources"]["unified"] = json!({"memory.oom.group": "1"});
    scope.container.run();
    let group = || fs::read_to_string(scope.cgroup().join("memory.oom.group")).unwrap().trim().to_owned();
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
    assert!(!scope.is_loaded() && !scope.cgroup().exists());
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
    assert!(error.contains("needs cgroup v2") || error.contains("systemd does not run on this machine"), "{error}");
    assert_eq!(fs::read_dir(container.dir.path().join("state")).unwrap().count(), 0);
}
