//! What a runtime tells without being asked for more: events, statistics, lists, its own status.
//!
//! Must not know: how pods are made.

use futures::{FutureExt as _, StreamExt as _};
use pintle_cri::v1;
use pintle_cri::v1::ContainerEventType as Event;

use super::Story;
use crate::node::Node;
use crate::pods::{container_config, pod_config};

pub const STORIES: &[(&str, Story)] = &[
    ("every_step_of_a_container_is_an_event", |node| events(node).boxed_local()),
    ("use_of_processor_memory_network_and_disk_is_counted", |node| stats(node).boxed_local()),
    ("limits_are_set_and_changed_while_it_runs", |node| limits(node).boxed_local()),
    ("lists_are_filtered_and_the_runtime_says_what_it_is", |node| lists(node).boxed_local()),
    ("a_rotated_log_goes_on_in_a_new_file", |node| rotation(node).boxed_local()),
];

async fn events(node: &mut Node) {
    let stream = node.cri().get_container_events(v1::GetEventsRequest {}).await.expect("events").into_inner();
    let pod = node.run_pod(pod_config("events")).await;
    let id = node.run(&pod, "main", "exit 3").await;
    node.exited(&id).await;
    node.remove_pod(&pod).await;
    let told: Vec<_> = stream
        .map(|event| event.expect("an event"))
        .take_while(|event| {
            let last = event.container_id == pod.id && event.container_event_type() == Event::ContainerDeletedEvent;
            std::future::ready(!last)
        })
        .collect()
        .await;
    let of =
        |id: &str| told.iter().filter(|one| one.container_id == id).map(|one| one.container_event_type()).collect();
    let steps: Vec<Event> = of(&id);
    use Event::{
        ContainerCreatedEvent as C, ContainerDeletedEvent as D, ContainerStartedEvent as S, ContainerStoppedEvent as E,
    };
    assert_eq!(steps, [C, S, E, D]);
    let sandbox: Vec<Event> = of(&pod.id);
    assert_eq!(sandbox, [C, S, E]);
    let stopped = told.iter().find(|one| one.container_id == id && one.container_event_type() == E).expect("a stop");
    let status = stopped.containers_statuses.iter().find(|one| one.id == id).expect("its status");
    assert_eq!(status.exit_code, 3);
}

async fn stats(node: &mut Node) {
    let pod = node.run_pod(pod_config("stats")).await;
    let line = "head -c 3000000 /dev/zero > /file; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000";
    let id = node.run(&pod, "main", line).await;
    let value = |value: Option<v1::UInt64Value>| value.map_or(0, |value| value.value);
    node.until("all is counted", async || {
        let request = v1::ContainerStatsRequest { container_id: id.clone() };
        let stats = node.cri().container_stats(request).await.expect("statistics").into_inner().stats.expect("them");
        let (cpu, memory) = (stats.cpu.expect("cpu"), stats.memory.expect("memory"));
        value(cpu.usage_core_nano_seconds) > 0
            && value(memory.working_set_bytes) > 0
            && value(stats.writable_layer.expect("a layer").used_bytes) >= 3_000_000
    })
    .await;
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let stats = node.cri().pod_sandbox_stats(request).await.expect("statistics").into_inner().stats.expect("them");
    let linux = stats.linux.expect("linux");
    assert_eq!(linux.network.and_then(|network| network.default_interface).expect("a link").name, "eth0");
    assert_eq!(linux.containers.len(), 1);
    assert!(value(linux.memory.and_then(|memory| memory.usage_bytes)) > 0);
    let known = node.cri().list_metric_descriptors(v1::ListMetricDescriptorsRequest {}).await.expect("descriptors");
    let metrics = node.cri().list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).await.expect("metrics");
    let metrics = metrics.into_inner().pod_metrics;
    let ours = metrics.iter().find(|one| one.pod_sandbox_id == pod.id).expect("the pod's");
    let names: Vec<_> = known.into_inner().descriptors.into_iter().map(|one| one.name).collect();
    let all = ours.metrics.iter().chain(ours.container_metrics.iter().flat_map(|one| &one.metrics));
    assert!(all.clone().count() > 5 && all.clone().all(|one| names.contains(&one.name)), "{ours:?}");
    node.remove_pod(&pod).await;
}

async fn limits(node: &mut Node) {
    let pod = node.run_pod(pod_config("limits")).await;
    let mut config = container_config(node, &pod, "main", "sleep 1000");
    config.linux.as_mut().expect("linux").resources = Some(v1::LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        oom_score_adj: 900,
        ..Default::default()
    });
    let id = node.create(&pod, config).await;
    node.start_container(&id).await.expect("a start");
    assert_eq!(node.output(&id, "cat /proc/1/oom_score_adj").await, "900");
    let files = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(node.output(&id, files).await, (64 << 20).to_string());
    let linux = Some(v1::LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() });
    let request = v1::UpdateContainerResourcesRequest { container_id: id.clone(), linux, ..Default::default() };
    node.cri().update_container_resources(request).await.expect("an update");
    assert_eq!(node.output(&id, files).await, (96 << 20).to_string());
    let shown = node.status(&id).await.resources.and_then(|all| all.linux).expect("limits");
    assert_eq!((shown.memory_limit_in_bytes, shown.cpu_quota), (96 << 20, 50_000));
    // more than it may have, in few steps: its processor is limited too
    node.exec(&id, "dd if=/dev/zero of=/dev/null bs=200M count=1").await;
    let greedy = node.run(&pod, "greedy", "sleep 1000").await;
    assert_eq!(node.status(&greedy).await.state(), v1::ContainerState::ContainerRunning);
    node.remove_pod(&pod).await;
}

async fn lists(node: &mut Node) {
    let mut config = pod_config("listed");
    config.labels.insert("app".into(), "listed".into());
    let pod = node.run_pod(config).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    let filter = |value: &str| v1::PodSandboxFilter {
        label_selector: [("app".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    for (value, expected) in [("listed", 1), ("other", 0)] {
        let request = v1::ListPodSandboxRequest { filter: Some(filter(value)) };
        assert_eq!(node.cri().list_pod_sandbox(request).await.expect("a list").into_inner().items.len(), expected);
    }
    let filter = v1::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let request = v1::StreamContainersRequest { filter: Some(filter) };
    let parts: Vec<_> = node.cri().stream_containers(request).await.expect("a stream").into_inner().collect().await;
    let listed: Vec<_> =
        parts.into_iter().flat_map(|part| part.expect("a part").containers).map(|one| one.id).collect();
    assert_eq!(listed, [id]);
    let status = node.cri().status(v1::StatusRequest { verbose: true }).await.expect("a status").into_inner();
    let conditions = status.status.expect("conditions").conditions;
    assert!(conditions.iter().all(|one| one.status), "{conditions:?}");
    assert!(status.runtime_handlers.iter().any(|one| one.name.is_empty()));
    let images = node.image().image_fs_info(v1::ImageFsInfoRequest {}).await.expect("a size").into_inner();
    assert!(images.image_filesystems[0].used_bytes.is_some_and(|bytes| bytes.value > 0));
    node.remove_pod(&pod).await;
}

async fn rotation(node: &mut Node) {
    let pod = node.run_pod(pod_config("rotation")).await;
    let id =
        node.run(&pod, "main", "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; sleep 1000").await;
    node.until("it wrote", async || node.container_log(&pod, "main").contains("before")).await;
    let path = format!("{}/main.log", pod.config.log_directory);
    std::fs::rename(&path, format!("{path}.1")).expect("a rotation");
    let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
    node.cri().reopen_container_log(request).await.expect("a new file");
    node.output(&id, "touch /go").await;
    node.until("it goes on", async || node.container_log(&pod, "main") == "stdout F after\n").await;
    node.remove_pod(&pod).await;
}
