//! Many pods coming and going at once: nothing is left of any, and the time that one takes is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pintle_cni::{Capabilities, Network, Pod, PortMapping};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::host::{Host, ip};

const PODS: usize = 1000;
const AT_ONCE: usize = 16;

/// What a host has of the pod network.
#[derive(Debug, PartialEq)]
struct Traces {
    links: String,
    routes: String,
    rules: String,
    files: Vec<PathBuf>,
}

impl Traces {
    fn of(dirs: &[&Path]) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let rules = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        let mut files = Vec::new();
        dirs.iter().for_each(|dir| walk(dir, &mut files));
        files.sort();
        // A bridge without ports is down.
        let links = text(ip(&["-br", "link"])).lines().filter_map(|it| it.split_whitespace().next()).collect();
        let routes = text(ip(&["route"])).replace(" linkdown", "");
        Self { links, routes, rules: text(rules.stdout), files }
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        }
    }
}

#[test]
fn nothing_is_left_of_a_thousand_pods() {
    let Some(mut host) = Host::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (conf_dir, cache) = (dir.path().join("net.d"), dir.path().join("cache"));
    pintle_cni::conf::install(&conf_dir, "10.99.0.0/22,fd99::/64", host.data.path()).unwrap();
    let namespaces: Vec<PathBuf> = (0..AT_ONCE).map(|n| host.pod(&format!("n{n}"))).collect();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let network = Network::load(&conf_dir, &[], &cache).unwrap();
        // The first pod makes the bridge and the tables, which stay.
        cycle(network.clone(), 0, namespaces[0].clone()).await;
        let mut alone = Vec::new();
        for number in (2..60).step_by(3) {
            alone.push(cycle(network.clone(), number, namespaces[0].clone()).await);
        }
        tell("alone", alone);
        let before = Traces::of(&[host.data.path(), dir.path()]);
        let times = many(&network, &namespaces).await;
        assert_eq!(Traces::of(&[host.data.path(), dir.path()]), before);
        tell("at once", times);
    });
}

/// Each namespace has one pod at a time, as namespaces of real pods do.
async fn many(network: &Network, namespaces: &[PathBuf]) -> Vec<(Duration, Duration)> {
    let (mut tasks, mut times) = (JoinSet::new(), Vec::new());
    let free: Arc<[(PathBuf, Semaphore)]> = namespaces.iter().map(|it| (it.clone(), Semaphore::new(1))).collect();
    for number in 1..=PODS {
        let (network, free) = (network.clone(), free.clone());
        tasks.spawn(async move {
            let (netns, turn) = &free[number % free.len()];
            let _turn = turn.acquire().await.unwrap();
            cycle(network, number, netns.clone()).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        times.push(done.unwrap());
    }
    times
}

/// One pod; every third has a host port.
async fn cycle(network: Network, number: usize, netns: PathBuf) -> (Duration, Duration) {
    let mapping = PortMapping {
        host_port: 10_000 + u16::try_from(number).unwrap(),
        container_port: 80,
        protocol: "TCP".into(),
        host_ip: String::new(),
    };
    let port_mappings = if number.is_multiple_of(3) { vec![mapping] } else { Vec::new() };
    let capabilities = Capabilities { port_mappings, ..Capabilities::default() };
    let pod = Pod { id: format!("pod{number}"), netns, capabilities, ..Pod::default() };
    let began = Instant::now();
    assert_eq!(network.add(&pod).await.unwrap().addresses().len(), 2);
    let added = began.elapsed();
    network.del(&pod.id).await.unwrap();
    (added, began.elapsed() - added)
}

fn tell(how: &str, mut times: Vec<(Duration, Duration)>) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].0;
    let mut removals: Vec<Duration> = times.iter().map(|it| it.1).collect();
    removals.sort();
    eprintln!("ADD, {how}: p50 {:?}, p99 {:?}; DEL p50 {:?}", at(50), at(99), removals[removals.len() / 2]);
}
