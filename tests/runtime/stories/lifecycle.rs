//! From a sandbox to a container's log, and back to nothing.
//!
//! Must not know: networks, streams.

use futures::FutureExt as _;
use pintle_cri::v1;
use pintle_cri::v1::ContainerState;

use super::Story;
use crate::pods::{container_config, on_host_network, pod_config};

pub const STORIES: &[(&str, Story)] = &[
    ("a_container_runs_logs_and_exits_with_its_code", |node| runs(node).boxed_local()),
    ("a_container_is_stopped_by_its_signal_and_then_by_force", |node| stops(node).boxed_local()),
    ("nothing_runs_in_a_pod_that_was_stopped", |node| stopped_pod(node).boxed_local()),
    ("what_cannot_start_says_why", |node| cannot_start(node).boxed_local()),
    ("nothing_is_left_of_a_removed_pod", |node| leaves_nothing(node).boxed_local()),
];

async fn runs(node: &mut crate::node::Node) {
    let pod = node.run_pod(on_host_network(pod_config("runs"))).await;
    assert_eq!(node.pod_status(&pod).await.state(), v1::PodSandboxState::SandboxReady);
    let id = node.create(&pod, container_config(node, &pod, "main", "echo out; echo err >&2; exit 7")).await;
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerCreated);
    node.start_container(&id).await.expect("a start");
    let status = node.exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at, "{status:?}");
    let log = node.container_log(&pod, "main");
    assert!(log.contains("stdout F out\n") && log.contains("stderr F err\n"), "{log:?}");
    assert_eq!(node.start_container(&id).await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    node.remove_pod(&pod).await;
}

async fn stops(node: &mut crate::node::Node) {
    let pod = node.run_pod(on_host_network(pod_config("stops"))).await;
    let polite = node.run(&pod, "polite", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done").await;
    node.until("it listens", async || node.container_log(&pod, "polite").contains("up")).await;
    node.stop_container(&polite, 20).await;
    assert_eq!(node.status(&polite).await.exit_code, 3);
    assert!(node.container_log(&pod, "polite").contains("bye"));
    let deaf = node.run(&pod, "deaf", "trap '' TERM; echo up; while :; do sleep 0.1; done").await;
    node.until("it is deaf", async || node.container_log(&pod, "deaf").contains("up")).await;
    node.stop_container(&deaf, 1).await;
    let status = node.status(&deaf).await;
    assert_eq!((status.exit_code, status.state()), (137, ContainerState::ContainerExited));
    // once more is no error, and neither is one that never was
    node.stop_container(&deaf, 1).await;
    node.stop_container("nobody", 1).await;
    node.remove_pod(&pod).await;
}

async fn stopped_pod(node: &mut crate::node::Node) {
    let pod = node.run_pod(on_host_network(pod_config("stopped"))).await;
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(node.create(&pod, container_config(node, &pod, &format!("c{number}"), "sleep 1000")).await);
    }
    let starts = futures::future::join_all(ids.iter().map(|id| node.start_container(id)));
    let (started, ()) = tokio::join!(starts, node.stop_pod(&pod));
    for (id, started) in ids.iter().zip(started) {
        // which of them were in time is anybody's guess
        let code = started.map_or_else(|status| status.code(), |()| tonic::Code::Ok);
        assert!(matches!(code, tonic::Code::Ok | tonic::Code::FailedPrecondition), "{code}");
        assert_ne!(node.status(id).await.state(), ContainerState::ContainerRunning);
        assert_eq!(node.start_container(id).await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    }
    node.remove_pod(&pod).await;
}

async fn cannot_start(node: &mut crate::node::Node) {
    let pod = node.run_pod(on_host_network(pod_config("broken"))).await;
    let mut config = container_config(node, &pod, "none", "");
    config.command = vec!["/no/such/program".into()];
    let id = node.create(&pod, config).await;
    let error = node.start_container(&id).await.unwrap_err();
    assert!(error.message().contains("no such file or directory"), "{error:?}");
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(status.message.contains("/no/such/program"), "{status:?}");
    let mut config = container_config(node, &pod, "nowhere", "");
    config.image = Some(v1::ImageSpec { image: "127.0.0.1:1/nowhere:1".into(), ..Default::default() });
    assert_eq!(node.try_create(&pod, config).await.unwrap_err().code(), tonic::Code::NotFound);
    node.remove_pod(&pod).await;
}

async fn leaves_nothing(node: &mut crate::node::Node) {
    let earlier = async || traces().iter().all(|path| !path.ends_with(".removed"));
    node.until("what earlier stories left is removed", earlier).await;
    let before = traces();
    let pod = node.run_pod(on_host_network(pod_config("gone"))).await;
    node.run(&pod, "main", "sleep 1000").await;
    assert_ne!(traces(), before);
    node.remove_pod(&pod).await;
    node.remove_pod(&pod).await;
    // a process that ended is seen until its parent has noticed
    node.until("nothing is left", async || traces() == before).await;
    let filter = Some(v1::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
    let list = node.cri().list_containers(v1::ListContainersRequest { filter }).await.expect("a list").into_inner();
    assert_eq!(list.containers, []);
}

/// Mounts, processes and folders that a runtime may leave behind.
fn traces() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    let folders =
        ["/var/lib/pintle/runtime/containers", "/var/lib/pintle/runtime/sandboxes", "/run/pintle/runtime/sandboxes"];
    let entries = folders.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let monitors = std::fs::read_dir("/proc").expect("processes").flatten().filter_map(|process| {
        // one that has ended, and whose parent has yet to notice, has no command line
        let name = std::fs::read_to_string(process.path().join("cmdline")).ok()?;
        name.starts_with("pintle-monitor").then_some(name)
    });
    let mut all: Vec<String> =
        mounts.chain(entries.map(|entry| entry.path().display().to_string())).chain(monitors).collect();
    all.sort();
    all
}
