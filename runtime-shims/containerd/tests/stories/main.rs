//! Stories of pods over a real containerd whose CRI is off.

mod attach;
mod machine;
mod volumes;

use machine::{Machine, SHELL, possible, until};
use pintle_cri::v1::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_and_ends_with_its_code() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let sandbox = machine.sandbox("web").await;
    let id = machine.container(&sandbox, "main", "echo out; echo err >&2; printf last; exit 7").await;
    let status = machine.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    let mut log = until(async || Some(machine.log("main")).filter(|log| log.len() == 3).ok_or("not all")).await;
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_answers_and_a_stop_ends_what_runs() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let sandbox = machine.sandbox("web").await;
    let script = "trap 'echo asked; exit 3' TERM; echo ready; while true; do sleep 0.05; done";
    let id = machine.container(&sandbox, "main", script).await;
    assert_eq!(machine.exec(&id, "echo hello; echo wrong >&2; exit 5").await, (5, "hello\nwrong\n".into()));
    let late = ExecSyncRequest { container_id: id.clone(), cmd: vec!["sleep".into(), "60".into()], timeout: 1 };
    assert_eq!(machine.runtime.clone().exec_sync(late).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    until(async || machine.log("main").first().map(drop).ok_or("not ready")).await;
    let stats = ContainerStatsRequest { container_id: id.clone() };
    let stats = machine.runtime.clone().container_stats(stats).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let stop = StopContainerRequest { container_id: id.clone(), timeout: 20 };
    machine.runtime.clone().stop_container(stop).await.unwrap();
    let status = machine.status(&id).await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 3));
    until(async || (machine.log("main").last().unwrap() == "stdout F asked").then_some(()).ok_or("not yet")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_our_restart_nor_containerds_loses_a_line_or_a_code() {
    if !possible() {
        return;
    }
    let mut machine = Machine::start().await;
    let sandbox = machine.sandbox("web").await;
    let script = "for i in $(seq 300); do echo line $i; sleep 0.01; done; exit 4";
    let id = machine.container(&sandbox, "main", script).await;
    machine.restart_runtime().await;
    machine.restart_containerd().await;
    machine.restart_runtime().await;
    assert_eq!(machine.ended(&id).await.exit_code, 4);
    let log = until(async || Some(machine.log("main")).filter(|log| log.len() == 300).ok_or("not all")).await;
    let expected: Vec<String> = (1..=300).map(|line| format!("stdout F line {line}")).collect();
    assert_eq!(log, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_who_and_what_the_request_says() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let sandbox = machine.sandbox("web").await;
    let namespaces = NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
    let context = LinuxContainerSecurityContext {
        run_as_username: "ann".into(),
        namespace_options: Some(namespaces),
        readonly_rootfs: true,
        ..Default::default()
    };
    let limits = LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let linux = LinuxContainerConfig { security_context: Some(context), resources: Some(limits) };
    let id = machine.create(&sandbox, "who", "id; echo > /x", linux).await.unwrap();
    machine.runtime.clone().start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    let status = machine.ended(&id).await;
    assert_eq!(status.user.unwrap().linux.unwrap().supplemental_groups, [1000, 63]);
    assert_eq!(status.resources.unwrap().linux.unwrap().memory_limit_in_bytes, 64 << 20);
    let log = until(async || Some(machine.log("who")).filter(|log| log.len() == 2).ok_or("not all")).await.join("\n");
    assert!(log.contains("uid=1000(ann)") && log.contains("Read-only file system"), "{log}");
    let context = LinuxContainerSecurityContext { privileged: true, ..Default::default() };
    let linux = LinuxContainerConfig { security_context: Some(context), resources: None };
    let refused = machine.create(&sandbox, "root", "true", linux).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("no privileged container allowed in sandbox"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_leaves_nothing() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let sandbox = machine.sandbox("web").await;
    let id = machine.container(&sandbox, "main", "sleep 1000").await;
    let mut client = machine.runtime.clone();
    client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.0.clone() }).await.unwrap();
    assert_eq!(machine.status(&id).await.exit_code, 137);
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.0.clone(), verbose: false };
    let stopped = client.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(stopped.state(), PodSandboxState::SandboxNotready);
    for _ in 0..2 {
        client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.0.clone() }).await.unwrap();
    }
    assert!(client.list_containers(ListContainersRequest::default()).await.unwrap().into_inner().containers.is_empty());
    for folder in ["lib/sandboxes", "lib/containers", "run/sandboxes", "run/containers"] {
        let left = std::fs::read_dir(machine.path(folder)).map(|entries| entries.count()).unwrap_or_default();
        assert_eq!(left, 0, "{folder}");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = machine.path("");
    assert!(!mounts.contains(ours.to_str().unwrap()), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_their_names_and_removed() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let asked = |image: &str| Some(ImageSpec { image: image.into(), ..Default::default() });
    let status = async |image: &str| {
        let request = ImageStatusRequest { image: asked(image), verbose: false };
        machine.images.clone().image_status(request).await.unwrap().into_inner().image
    };
    let found = status(SHELL).await.unwrap();
    assert_eq!(found.repo_tags, [SHELL]);
    assert_eq!(status(&found.id).await, Some(found.clone()));
    let request = RemoveImageRequest { image: asked(SHELL) };
    machine.images.clone().remove_image(request.clone()).await.unwrap();
    machine.images.clone().remove_image(request).await.unwrap();
    assert_eq!(status(SHELL).await, None);
    let pull = PullImageRequest { image: asked("127.0.0.1:1/none:1"), ..Default::default() };
    let refused = machine.images.clone().pull_image(pull).await.unwrap_err();
    assert!(refused.message().contains("failed to pull and unpack image 127.0.0.1:1/none:1"), "{refused}");
}
