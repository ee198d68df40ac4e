//! Many pods, one after the other and side by side: the machine and the runtime hold afterwards what they held before.
//!
//! `RUNTIME_PODS` says how many (20 one after the other, and as many again side by side), `RUNTIME_BATCH` how many side by
//! side (10).
//!
//! Must not know: how pods are made.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use futures::FutureExt as _;
use futures::StreamExt as _;

use super::Story;
use crate::census::Census;
use crate::dice::size;
use crate::node::Node;
use crate::pods::pod_config;

pub const STORIES: &[(&str, Story)] = &[("a_thousand_pods_leave_nothing", |node| churn(node).boxed_local())];

/// What the runtime may hold beyond: connections that come and go.
const SLACK: usize = 8;

async fn churn(node: &mut Node) {
    let (pods, batch) = (size("RUNTIME_PODS", 20), size("RUNTIME_BATCH", 10));
    // what grows once and stays: threads, the bridge, allocators
    side_by_side(node, batch, batch).await;
    let (before, fds, memory) = (Census::take(node.pid()), descriptors(node.pid()), memory(node.pid()));
    let started = Instant::now();
    for _ in 0..pods {
        one(node).await;
    }
    let alone = started.elapsed();
    node.nothing_beyond(&before).await;
    let started = Instant::now();
    side_by_side(node, pods, batch).await;
    let together = started.elapsed();
    node.nothing_beyond(&before).await;
    node.until("the runtime closes what it opened", async || {
        descriptors(node.pid()).values().sum::<usize>() <= fds.values().sum::<usize>() + SLACK
    })
    .await;
    println!(
        "  {pods} pods one after the other in {alone:.1?}, {pods} by {batch} in {together:.1?}; the runtime: {} -> {} KiB, {} -> {} descriptors",
        memory,
        self::memory(node.pid()),
        fds.values().sum::<usize>(),
        descriptors(node.pid()).values().sum::<usize>(),
    );
}

async fn side_by_side(node: &Node, pods: u64, batch: u64) {
    let all = (0..pods).map(|_| one(node));
    futures::stream::iter(all).buffer_unordered(usize::try_from(batch).unwrap_or(1)).count().await;
}

/// A pod's whole life, with a command in it.
async fn one(node: &Node) {
    let pod = node.run_pod(pod_config("churn")).await;
    let id = node.run(&pod, "main", "echo line; exec sleep 100000").await;
    assert_eq!(node.output(&id, "echo in").await, "in");
    node.remove_pod(&pod).await;
}

/// Open files of a process, by kind.
fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("the runtime").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        *kinds.entry(target.split([':', '[']).next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    kinds
}

/// Resident, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the runtime");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
