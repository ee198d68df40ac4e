//! The runtime is ended in every way; what it runs goes on, and the next one knows all of it.
//!
//! Must not know: how pods are made.

use std::path::Path;

use futures::FutureExt as _;
use pintle_cri::v1;
use pintle_cri::v1::ContainerState;

use super::Story;
use crate::isolation::SCRATCH;
use crate::node::{Node, pintle};
use crate::pods::pod_config;

pub const STORIES: &[(&str, Story)] = &[
    ("a_killed_runtime_loses_no_container_no_line_and_no_exit_code", |node| killed(node).boxed_local()),
    ("a_stopped_runtime_leaves_everything_running", |node| stopped(node).boxed_local()),
    ("a_program_that_is_replaced_while_it_runs_goes_on", |node| replaced(node).boxed_local()),
    ("a_killed_monitor_ends_its_pod_and_no_other", |node| monitor(node).boxed_local()),
];

async fn killed(node: &mut Node) {
    let pod = node.run_pod(pod_config("killed")).await;
    let address = node.pod_status(&pod).await.network.expect("a network").ip;
    let long = node.run(&pod, "long", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done").await;
    let short = node.run(&pod, "short", "sleep 0.5; exit 42").await;
    let done = node.run(&pod, "done", "exit 4").await;
    node.exited(&done).await;
    let before = node.status(&long).await;
    node.kill();
    // it exits while nobody looks
    let exit = format!("/var/lib/pintle/runtime/containers/{short}/exit");
    while !std::path::Path::new(&exit).exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    node.start().await;
    assert_eq!(node.status(&long).await, before);
    let status = node.exited(&short).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (42, "Error"));
    assert_eq!(node.status(&done).await.exit_code, 4);
    let now = node.pod_status(&pod).await;
    assert_eq!((now.state(), now.network.expect("a network").ip), (v1::PodSandboxState::SandboxReady, address));
    assert_eq!(node.output(&long, "echo in").await, "in");
    node.stop_container(&long, 0).await;
    let log = node.container_log(&pod, "long");
    let lines: Vec<String> = log.lines().map(|line| line.trim_start_matches("stdout F ").to_owned()).collect();
    let expected: Vec<String> = (0..lines.len()).map(|index| format!("line {index}")).collect();
    assert_eq!(lines, expected, "a line is missing");
    node.remove_pod(&pod).await;
}

async fn stopped(node: &mut Node) {
    let pod = node.run_pod(pod_config("stopped")).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    let before = node.status(&id).await;
    node.stop();
    node.start().await;
    assert_eq!(node.status(&id).await, before);
    node.remove_pod(&pod).await;
}

async fn replaced(node: &mut Node) {
    let program = Path::new(SCRATCH).join("pintle");
    std::fs::copy(pintle(), &program).expect("a copy");
    node.stop();
    node.start_from(&program).await;
    // as an upgrade leaves the file that runs
    std::fs::remove_file(&program).expect("a file");
    let pod = node.run_pod(pod_config("replaced")).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    assert_eq!(node.output(&id, "echo in").await, "in");
    let before = node.status(&id).await;
    node.stop();
    node.start().await;
    assert_eq!(node.status(&id).await, before);
    node.remove_pod(&pod).await;
}

async fn monitor(node: &mut Node) {
    let (pod, other) = (node.run_pod(pod_config("orphan")).await, node.run_pod(pod_config("other")).await);
    let (id, fine) = (node.run(&pod, "main", "sleep 1003").await, node.run(&other, "main", "sleep 1004").await);
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let ours = processes.filter(|process| {
        let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with("pintle-monitor") && line.contains(&pod.id)
    });
    for process in ours {
        let pid = process.file_name().to_string_lossy().parse().expect("a number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).expect("a signal");
    }
    let status = node.exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    node.until("the pod is not ready", async || {
        node.pod_status(&pod).await.state() == v1::PodSandboxState::SandboxNotready
    })
    .await;
    assert_eq!(node.status(&fine).await.state(), ContainerState::ContainerRunning);
    node.remove_pod(&pod).await;
    node.remove_pod(&other).await;
}
