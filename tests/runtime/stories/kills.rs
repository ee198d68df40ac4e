//! The runtime is killed at any moment of many pods' lives; the next one accounts for every container, and when the pods
//! are removed nothing is left.
//!
//! `RUNTIME_KILLS` says how often (3), `RUNTIME_WIDTH` how many pods live side by side (12), `RUNTIME_SEED` repeats a run.
//!
//! Must not know: what a life consists of.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use pintle_cri::v1;
use pintle_cri::v1::{ContainerState, PodSandboxState};

use super::Story;
use crate::census::Census;
use crate::dice::{Dice, size};
use crate::lives::{Call, Container, Facts, Kind, Life, Worker};
use crate::node::Node;

pub const STORIES: &[(&str, Story)] =
    &[("killed_at_any_moment_it_accounts_for_everything", |node| killed(node).boxed_local())];

/// A bound, not an expectation.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

async fn killed(node: &mut Node) {
    let mut dice = Dice::printed("kills");
    let width = size("RUNTIME_WIDTH", 12);
    warm_up(node).await;
    pull_and_remove(node).await;
    let before = Census::take(node.pid());
    for round in 0..size("RUNTIME_KILLS", 3) {
        let facts = lives_until_killed(node, &mut dice, width).await;
        let started = Instant::now();
        node.start().await;
        let took = started.elapsed();
        let lives = facts.lives.lock().await.clone();
        let complaints = facts.complaints.lock().await.clone();
        assert!(complaints.is_empty(), "round {round}: {complaints:#?}");
        account(node, &lives).await;
        let running = remove_all(node).await;
        node.nothing_beyond(&before).await;
        println!(
            "  kill {round}: {} calls, {} pods lived, {running} taken over in {took:.2?}",
            facts.calls.load(Ordering::Relaxed),
            lives.len()
        );
    }
}

/// What is made once and stays: the bridge, the tables of rules, the root of pauses.
pub async fn warm_up(node: &Node) {
    let mut config = crate::pods::pod_config("warm");
    crate::pods::security(&mut config).pid = v1::NamespaceMode::Pod.into();
    config.port_mappings = vec![v1::PortMapping { host_port: 19_999, container_port: 80, ..Default::default() }];
    let pod = node.run_pod(config).await;
    node.run(&pod, "main", "sleep 1000").await;
    node.remove_pod(&pod).await;
}

/// So that what a killed pull left to be resumed is resumed, and goes.
async fn pull_and_remove(node: &Node) {
    for name in pulled(node) {
        let image = Some(v1::ImageSpec { image: name, ..Default::default() });
        let request = v1::PullImageRequest { image: image.clone(), ..Default::default() };
        node.image().pull_image(request).await.expect("a pull");
        node.image().remove_image(v1::RemoveImageRequest { image }).await.expect("a removal");
    }
}

fn pulled(node: &Node) -> Vec<String> {
    vec![node.images.web2.clone(), node.images.client.clone()]
}

async fn lives_until_killed(node: &mut Node, dice: &mut Dice, width: u64) -> Arc<Facts> {
    let facts = Arc::new(Facts::default());
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..width {
        let worker = Worker {
            cri: node.cri(),
            images: node.image(),
            shell: node.images.shell.clone(),
            pulled: pulled(node),
            facts: facts.clone(),
            dice: dice.another(),
        };
        if number % 10 == 9 {
            workers.spawn(worker.pull());
        } else {
            workers.spawn(worker.run());
        }
    }
    // the wider, the longer until all are in the midst of it
    let longest = 1500 + width * 60;
    tokio::time::sleep(Duration::from_millis(dice.below(longest))).await;
    facts.killed.store(true, Ordering::SeqCst);
    node.kill();
    while workers.join_next().await.is_some() {}
    facts
}

/// Every life is as its calls left it.
async fn account(node: &Node, lives: &[Life]) {
    let all = node.cri().list_containers(v1::ListContainersRequest { filter: None }).await.expect("a list");
    for one in &all.into_inner().containers {
        consistent(node, &one.id).await;
    }
    let pods = node.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await.expect("a list");
    let pods: HashMap<String, PodSandboxState> =
        pods.into_inner().items.into_iter().map(|one| (one.id.clone(), one.state())).collect();
    for life in lives {
        let state = pods.get(&life.pod).copied();
        match (life.stopped, life.removed) {
            (_, Call::Done) => assert_eq!(state, None, "removed: {life:?}"),
            (Call::Never, _) => assert_eq!(state, Some(PodSandboxState::SandboxReady), "{life:?}"),
            (Call::Done, Call::Never) => assert_eq!(state, Some(PodSandboxState::SandboxNotready), "{life:?}"),
            _ => {}
        }
        for container in life.containers.iter().filter(|_| life.removed == Call::Never) {
            accounted(node, life, container).await;
        }
    }
}

/// What runs has a process, what does not has none, and nothing is unknown.
async fn consistent(node: &Node, id: &str) {
    let Ok(status) = node.try_status(id).await else { return };
    assert_ne!(status.state(), ContainerState::ContainerUnknown, "{status:?}");
    assert_ne!(status.reason, "Unknown", "nobody saw the end of {status:?}");
    let alive = processes_of(id);
    if status.state() == ContainerState::ContainerRunning && alive.is_empty() {
        // it ended just now
        node.exited(id).await;
    }
    if status.state() != ContainerState::ContainerRunning {
        assert_eq!(alive, Vec::<String>::new(), "processes of what does not run: {status:?}");
    }
}

/// Processes that are in a container's cgroup.
fn processes_of(id: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let inside = all.filter(|path| fs::read_to_string(path.join("cgroup")).is_ok_and(|text| text.contains(id)));
    inside.map(|path| format!("{} {:?}", path.display(), fs::read_to_string(path.join("cmdline")))).collect()
}

async fn accounted(node: &Node, life: &Life, container: &Container) {
    let status = match (node.try_status(&container.id).await, container.removed) {
        (Err(status), Call::Done | Call::Asked) => {
            return assert_eq!(status.code(), tonic::Code::NotFound, "{container:?}");
        }
        (Ok(status), Call::Never | Call::Asked) => status,
        (found, _) => panic!("{container:?} of {life:?}: {found:?}"),
    };
    let ended = life.stopped != Call::Never || container.stopped != Call::Never || container.removed != Call::Never;
    match (container.kind, container.started) {
        (Kind::Exits(code), Call::Done) if !ended => {
            assert_eq!(node.exited(&container.id).await.exit_code, code, "{container:?}");
        }
        (Kind::Stays, Call::Done) if !ended => {
            assert_eq!(status.state(), ContainerState::ContainerRunning, "{container:?}: {status:?}");
            assert_eq!(node.output(&container.id, "echo still").await, "still");
        }
        (Kind::Stays, Call::Done) if container.stopped == Call::Done || life.stopped == Call::Done => {
            assert_eq!(status.state(), ContainerState::ContainerExited, "{container:?}: {status:?}");
            assert!([137, 143].contains(&status.exit_code), "{container:?}: {status:?}");
        }
        // what runs without having been acknowledged must be a whole container nevertheless
        (Kind::Stays, Call::Asked) if !ended && status.state() == ContainerState::ContainerRunning => {
            assert_eq!(node.output(&container.id, "echo still").await, "still");
        }
        _ => {}
    }
}

/// Removes every pod there is; how many there were.
async fn remove_all(node: &Node) -> usize {
    let pods = node.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await.expect("a list");
    let pods = pods.into_inner().items;
    let each = pods.iter().map(|pod| async {
        let id = pod.id.clone();
        let stop = v1::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        node.cri().stop_pod_sandbox(stop).await.expect("a stop");
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: id };
        node.cri().remove_pod_sandbox(remove).await.expect("a removal");
    });
    futures::future::join_all(each).await;
    pull_and_remove(node).await;
    pods.len()
}

impl Node {
    /// Waits until the machine holds what it held, and nothing else.
    pub async fn nothing_beyond(&self, before: &Census) {
        let started = Instant::now();
        loop {
            let differences = Census::take(self.pid()).differences(before);
            if differences.is_empty() {
                return;
            }
            assert!(started.elapsed() < SETTLED_WITHIN, "left behind:\n{}", differences.join("\n"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_status(&self, id: &str) -> Result<v1::ContainerStatus, tonic::Status> {
        let request = v1::ContainerStatusRequest { container_id: id.into(), verbose: false };
        Ok(self.cri().container_status(request).await?.into_inner().status.expect("a status"))
    }
}
