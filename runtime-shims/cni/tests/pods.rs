//! The plugin in network namespaces of the test's own: pods reach each other and the host, and nothing is left.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use pintle_cni::plugin::{self, Outcome};
use serde_json::{Value, json};

/// A host of the test's own: this thread's network namespace, and pods' beside it.
struct Host {
    data: tempfile::TempDir,
    pods: Vec<String>,
}

impl Host {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: needs root and network namespaces");
            return None;
        }
        ip(&["link", "set", "lo", "up"]);
        Some(Self { data: tempfile::tempdir().unwrap(), pods: Vec::new() })
    }

    fn pod(&mut self, name: &str) -> PathBuf {
        let unique = format!("cri-cni-{}-{name}", std::process::id());
        ip(&["netns", "add", &unique]);
        self.pods.push(unique.clone());
        Path::new("/run/netns").join(unique)
    }

    fn call(&self, command: &str, container: &str, netns: &Path, more: Value) -> Outcome {
        let mut network = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "pintle-cni",
            "podCIDR": "10.99.0.0/24", "dataDir": self.data.path(),
        });
        network.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let env = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns.to_str().unwrap()),
            ("CNI_IFNAME", "eth0"),
        ];
        let env: HashMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        plugin::call(&env, network.to_string().as_bytes())
    }

    fn add(&self, container: &str, netns: &Path) -> String {
        let outcome = self.call("ADD", container, netns, json!({}));
        assert_eq!(outcome.code, 0, "{}", outcome.stdout);
        let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(result["interfaces"][2]["sandbox"], json!(netns));
        result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/32").to_owned()
    }

    fn ok(&self, command: &str, container: &str, netns: &Path, more: Value) {
        let outcome = self.call(command, container, netns, more);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{command}");
    }

    fn links(&self) -> usize {
        String::from_utf8(ip(&["-o", "link", "show", "type", "veth"])).unwrap().lines().count()
    }

    fn leases(&self) -> usize {
        let names = std::fs::read_dir(self.data.path().join("pods")).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("10.")).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _ = Command::new("ip").args(["netns", "del", pod]).status();
        }
    }
}

fn ip(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {output:?}");
    output.stdout
}

fn reaches(netns: Option<&Path>, address: &str) -> bool {
    let ping = ["busybox", "ping", "-c", "1", "-W", "2", address];
    let status = match netns {
        Some(netns) => {
            let name = netns.file_name().unwrap().to_str().unwrap();
            Command::new("ip").args(["netns", "exec", name]).args(ping).output()
        }
        None => Command::new(ping[0]).args(&ping[1..]).output(),
    };
    status.unwrap().status.success()
}

#[test]
fn pods_reach_each_other_and_the_host_and_leave_nothing_behind() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (host.pod("a"), host.pod("b"));
    let (first, second) = (host.add("a", &a), host.add("b", &b));
    assert_eq!((first.as_str(), second.as_str()), ("10.99.0.2", "10.99.0.3"));
    assert!(reaches(Some(&a), &second), "pod to pod");
    assert!(reaches(Some(&b), "10.99.0.1"), "pod to host");
    assert!(reaches(None, &first), "host to pod");
    assert!(reaches(Some(&a), "127.0.0.1"), "its own loopback");
    host.ok("CHECK", "a", &a, json!({}));
    for _twice in 0..2 {
        host.ok("DEL", "a", &a, json!({}));
    }
    assert_ne!(host.call("CHECK", "a", &a, json!({})).code, 0);
    assert!(reaches(Some(&b), "10.99.0.1"), "the other pod is left alone");
    host.ok("DEL", "b", Path::new(""), json!({}));
    assert_eq!((host.links(), host.leases()), (0, 0));
}

#[test]
fn an_add_that_fails_leaves_nothing() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("taken");
    let name = pod.file_name().unwrap().to_str().unwrap();
    ip(&["-n", name, "link", "add", "eth0", "type", "bridge"]);
    let outcome = host.call("ADD", "c", &pod, json!({}));
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.contains(r#""code":100"#), "{}", outcome.stdout);
    assert_eq!((host.links(), host.leases()), (0, 0));
}

#[test]
fn collection_removes_what_the_runtime_no_longer_has() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (host.pod("a"), host.pod("b"));
    host.add("a", &a);
    let kept = host.add("b", &b);
    let valid = json!([{ "containerID": "b", "ifname": "eth0" }]);
    host.ok("GC", "", Path::new(""), json!({ "cni.dev/valid-attachments": valid }));
    assert_eq!((host.links(), host.leases()), (1, 1));
    assert!(reaches(None, &kept));
    host.ok("STATUS", "", Path::new(""), json!({}));
}

#[test]
fn as_loopback_it_brings_the_loopback_device_up() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("lo");
    assert!(!reaches(Some(&pod), "127.0.0.1"));
    let outcome = host.call("ADD", "c", &pod, json!({ "type": "loopback" }));
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    assert!(reaches(Some(&pod), "127.0.0.1"));
    host.ok("DEL", "c", &pod, json!({ "type": "loopback" }));
}

#[test]
fn cleanup_leaves_no_link_and_no_lease() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("a");
    host.add("a", &pod);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let removed = tokio.block_on(pintle_cni::cleanup(host.data.path())).unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(host.links(), 0);
    assert!(ip(&["-o", "link", "show", "type", "bridge"]).is_empty());
    assert!(tokio.block_on(pintle_cni::cleanup(host.data.path())).unwrap().is_empty(), "nothing is left to remove");
}
