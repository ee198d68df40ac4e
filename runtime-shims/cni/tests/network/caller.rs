//! The calling side: chains, what is kept over a restart, collection, and that nothing leaks.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pintle_cni::{CallError, Capabilities, Network, Pod, PortMapping};
use serde_json::{Value, json};

use crate::host::{Host, ip, reaches};

/// Folders of a runtime's: configurations, plugins, results.
struct Places {
    dir: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        let places = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["net.d", "bin"] {
            fs::create_dir(places.at(name)).unwrap();
        }
        places
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn network(&self) -> Network {
        Network::load(&self.at("net.d"), &[self.at("bin"), "/usr/lib/cni".into()], &self.at("cache")).unwrap()
    }

    /// The default network, as `pintle up` configures it.
    fn ours(&self, host: &Host) {
        pintle_cni::conf::install(&self.at("net.d"), "10.99.0.0/22", host.data.path()).unwrap();
    }

    fn list(&self, plugins: Value) {
        let list = json!({ "cniVersion": "1.0.0", "name": "chain", "plugins": plugins });
        fs::write(self.at("net.d/10-chain.conflist"), list.to_string()).unwrap();
    }

    /// A plugin of somebody else's: notes what it is told, and does what `script` says.
    fn plugin(&self, name: &str, script: &str) {
        let notes = self.at(name);
        fs::create_dir(&notes).unwrap();
        let path = self.at("bin").join(name);
        let note = format!("cat > {0}/$CNI_COMMAND\nenv > {0}/$CNI_COMMAND.env", notes.display());
        fs::write(&path, format!("#!/bin/sh\n{note}\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn told(&self, plugin: &str, command: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(plugin).join(command)).unwrap()).unwrap()
    }

    fn kept(&self) -> usize {
        fs::read_dir(self.at("cache")).unwrap().count()
    }
}

fn pod(id: &str, netns: &Path) -> Pod {
    Pod {
        id: id.into(),
        name: format!("{id}-0"),
        namespace: "shop".into(),
        uid: "u1".into(),
        netns: netns.into(),
        capabilities: Capabilities::default(),
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[test]
fn a_pod_is_detached_after_a_restart_by_what_was_kept() {
    let Some(mut host) = Host::new() else { return };
    let places = Places::new();
    places.ours(&host);
    let netns = host.pod("a");
    block_on(async {
        let network = places.network();
        network.status().await.unwrap();
        let added = network.add(&pod("a", &netns)).await.unwrap();
        assert_eq!(added.addresses()[0].to_string(), "10.99.0.2");
        assert!(reaches(None, "10.99.0.2"));
        network.check("a").await.unwrap();
        drop(network);
        fs::remove_file(places.at("net.d/10-pintle.conflist")).unwrap();
        let network = places.network();
        assert_eq!(network.result("a").unwrap(), Some(added));
        network.check("a").await.unwrap();
        network.del("a").await.unwrap();
        network.del("a").await.unwrap();
        assert!(matches!(network.check("a").await, Err(CallError::NotAttached(_))));
    });
    assert_eq!((host.links(), host.leases("pintle"), places.kept()), (0, 0, 0));
}

#[test]
fn who_leaves_is_gone_in_the_end_and_a_collection_ends_what_a_kill_cut_short() {
    let Some(mut host) = Host::new() else { return };
    let places = Places::new();
    places.ours(&host);
    let netns = host.pod("a");
    let nothing = |host: &Host| (host.links(), host.leases("pintle"), places.kept()) == (0, 0, 0);
    block_on(async {
        let network = places.network();
        network.add(&pod("a", &netns)).await.unwrap();
        network.leave("a").await.unwrap();
        network.settled().await;
        assert!(nothing(&host));
        network.leave("unknown").await.unwrap();
        network.add(&pod("a", &netns)).await.unwrap();
    });
    // the end of its tokio runtime takes along what works behind
    block_on(async { places.network().leave("a").await.unwrap() });
    block_on(async { places.network().gc(HashSet::new).await.unwrap() });
    assert!(nothing(&host));
}

#[test]
fn a_pod_whose_record_was_damaged_is_detached_nevertheless() {
    let Some(mut host) = Host::new() else { return };
    let places = Places::new();
    places.ours(&host);
    let netns = host.pod("a");
    block_on(async {
        let network = places.network();
        for damage in ["", "{\"network\":{},\"pod\":{}}"] {
            network.add(&pod("a", &netns)).await.unwrap();
            fs::write(places.at("cache/a.json"), damage).unwrap();
            network.del("a").await.unwrap();
            assert_eq!((host.links(), host.leases("pintle"), places.kept()), (0, 0, 0));
        }
    });
}

#[test]
fn a_caller_that_goes_away_leaves_nothing_that_cannot_be_detached() {
    let Some(mut host) = Host::new() else { return };
    let places = Places::new();
    places.ours(&host);
    let netns = host.pod("a");
    block_on(async {
        let network = places.network();
        for steps in 0..20 {
            let (calls, pod) = (network.clone(), pod("a", &netns));
            let call = tokio::spawn(async move { calls.add(&pod).await });
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
            call.abort();
            network.del("a").await.unwrap();
            // Begun or not, in whatever order: the last word is a DEL.
            network.gc(HashSet::new).await.unwrap();
            assert_eq!((host.links(), host.leases("pintle"), places.kept()), (0, 0, 0), "after {steps} steps");
        }
    });
}

#[test]
fn plugins_of_a_chain_are_told_what_they_want_and_undone_in_reverse() {
    let places = Places::new();
    let result =
        r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.1.0.7/24"}]}"#;
    places.plugin(
        "first",
        &format!("[ $CNI_COMMAND = DEL ] && date +%s%N > {}/first.del || echo '{result}'", places.dir.path().display()),
    );
    places.plugin(
        "second",
        &format!(
            "[ $CNI_COMMAND = DEL ] && date +%s%N > {}/second.del || echo '{result}'",
            places.dir.path().display()
        ),
    );
    places.list(json!([{ "type": "first" }, { "type": "second", "capabilities": { "portMappings": true } }]));
    block_on(async {
        let network = places.network();
        let mapping =
            PortMapping { host_port: 80, container_port: 8080, protocol: "TCP".into(), host_ip: String::new() };
        let capabilities = Capabilities { port_mappings: vec![mapping], ..Capabilities::default() };
        let pod = Pod { capabilities, ..pod("a", Path::new("/proc/self/ns/net")) };
        assert_eq!(network.add(&pod).await.unwrap().addresses()[0].to_string(), "10.1.0.7");
        network.del("a").await.unwrap();
    });
    assert!(places.told("first", "ADD").get("runtimeConfig").is_none());
    let second = places.told("second", "ADD");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.1.0.7/24");
    assert_eq!(second["runtimeConfig"]["portMappings"][0]["protocol"], "tcp");
    assert_eq!(places.told("second", "DEL")["prevResult"]["ips"][0]["address"], "10.1.0.7/24");
    let env = fs::read_to_string(places.at("first/ADD.env")).unwrap();
    let args =
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a-0;K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=u1";
    for line in [args, "CNI_CONTAINERID=a", "CNI_IFNAME=eth0", "CNI_NETNS=/proc/self/ns/net"] {
        assert!(env.lines().any(|it| it == line), "{line} in {env}");
    }
    let time = |name| fs::read_to_string(places.at(name)).unwrap();
    assert!(time("second.del") < time("first.del"));
}

#[test]
fn a_failed_attachment_is_undone_and_the_plugins_reason_is_told() {
    let Some(mut host) = Host::new() else { return };
    let places = Places::new();
    places
        .plugin("no", r#"[ $CNI_COMMAND = DEL ] || { echo '{"code":11,"msg":"not now","details":"full"}'; exit 1; }"#);
    let ours = json!({ "type": "pintle-cni", "podCIDR": "10.99.0.0/24", "dataDir": host.data.path() });
    places.list(json!([ours, { "type": "no" }]));
    let netns = host.pod("a");
    block_on(async {
        let error = places.network().add(&pod("a", &netns)).await.unwrap_err();
        assert_eq!(error.code(), Some(11));
        assert_eq!(error.to_string(), r#"plugin type="no" failed (ADD): not now; full (code 11)"#);
        places.list(json!([{ "type": "absent" }]));
        let error = places.network().add(&pod("a", &netns)).await.unwrap_err();
        assert!(error.to_string().starts_with(r#"failed to find plugin "absent" in path"#), "{error}");
    });
    assert_eq!((host.links(), host.leases("chain")), (0, 0));
}

#[test]
fn collection_detaches_what_no_sandbox_has() {
    let Some(mut host) = Host::new() else { return };
    let places = Places::new();
    places.ours(&host);
    let (a, b) = (host.pod("a"), host.pod("b"));
    block_on(async {
        let network = places.network();
        network.add(&pod("a", &a)).await.unwrap();
        network.add(&pod("b", &b)).await.unwrap();
        fs::remove_file(places.at("cache/a.json")).unwrap();
        network.gc(|| HashSet::from(["b".to_owned()])).await.unwrap();
        assert_eq!((host.links(), host.leases("pintle"), places.kept()), (1, 1, 1));
        network.gc(HashSet::new).await.unwrap();
    });
    assert_eq!((host.links(), host.leases("pintle"), places.kept()), (0, 0, 0));
}

#[test]
fn a_configuration_that_comes_or_changes_later_is_noticed() {
    let places = Places::new();
    block_on(async {
        let network = places.network();
        let error = network.status().await.unwrap_err().to_string();
        assert!(error.starts_with("cni plugin not initialized: no network config found in"), "{error}");
        places.list(json!([{ "type": "first" }]));
        network.status().await.unwrap();
        let list = json!({ "cniVersion": "1.0.0", "name": "other", "plugins": [{ "type": "x" }] });
        fs::write(places.at("net.d/05-other.conflist"), list.to_string()).unwrap();
        while network.name().as_deref() != Some("other") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn debians_bridge_and_portmap_attach_a_pod() {
    let Some(mut host) = Host::new() else { return };
    if !["bridge", "host-local", "portmap"].iter().all(|it| Path::new("/usr/lib/cni").join(it).exists()) {
        eprintln!("skipped: needs the reference plugins");
        return;
    }
    let places = Places::new();
    let ipam = json!({ "type": "host-local", "subnet": "10.98.0.0/24", "dataDir": places.at("ipam") });
    places.list(json!([
        { "type": "bridge", "bridge": "ref0", "isGateway": true, "ipam": ipam },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ]));
    let netns = host.pod("a");
    block_on(async {
        let network = places.network();
        let added = network.add(&pod("a", &netns)).await.unwrap();
        assert!(reaches(None, &added.addresses()[0].to_string()));
        network.check("a").await.unwrap();
        network.del("a").await.unwrap();
    });
    assert_eq!((host.links(), places.kept()), (0, 0));
    ip(&["link", "del", "ref0"]);
}
