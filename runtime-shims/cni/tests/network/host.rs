//! A host of a test's own: a network namespace for the test's thread, and pods' beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use pintle_cni::plugin::{self, Outcome};
use serde_json::{Value, json};

/// A host of the test's own: this thread's network namespace, and pods' beside it.
pub struct Host {
    pub data: tempfile::TempDir,
    pods: Vec<String>,
}

impl Host {
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: needs root and network namespaces");
            return None;
        }
        ip(&["link", "set", "lo", "up"]);
        Some(Self { data: tempfile::tempdir().unwrap(), pods: Vec::new() })
    }

    pub fn pod(&mut self, name: &str) -> PathBuf {
        let unique = format!("cri-cni-{}-{name}", std::process::id());
        ip(&["netns", "add", &unique]);
        self.pods.push(unique.clone());
        Path::new("/run/netns").join(unique)
    }

    pub fn call(&self, command: &str, container: &str, netns: &Path, more: Value) -> Outcome {
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

    pub fn add(&self, container: &str, netns: &Path) -> String {
        let outcome = self.call("ADD", container, netns, json!({}));
        assert_eq!(outcome.code, 0, "{}", outcome.stdout);
        let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(result["interfaces"][2]["sandbox"], json!(netns));
        result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/32").to_owned()
    }

    pub fn ok(&self, command: &str, container: &str, netns: &Path, more: Value) {
        let outcome = self.call(command, container, netns, more);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{command}");
    }

    pub fn links(&self) -> usize {
        String::from_utf8(ip(&["-o", "link", "show", "type", "veth"])).unwrap().lines().count()
    }

    pub fn leases(&self, network: &str) -> usize {
        let names = std::fs::read_dir(self.data.path().join(network)).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_str().unwrap().parse::<std::net::IpAddr>().is_ok()).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _ = Command::new("ip").args(["netns", "del", pod]).status();
        }
    }
}

pub fn ip(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {output:?}");
    output.stdout
}

/// Whether an echo comes back: of several, since a link that the kernel activates late drops what is sent before.
pub fn reaches(netns: Option<&Path>, address: &str) -> bool {
    (0..10).any(|_| echoes(netns, address))
}

/// Whether this one does, within two seconds.
pub fn echoes(netns: Option<&Path>, address: &str) -> bool {
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
