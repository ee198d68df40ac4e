//! A kubelet without an API: static pods run in a real containerd, outlive the kubelet, are adopted by the next one and
//! end with their file. Skipped where containers cannot run.

mod machine;

use std::path::Path;

use machine::{Machine, SHELL, possible, until};
use pintle_cri::v1::{ContainerState, ListContainersRequest, StopContainerRequest};
use pintle_daemon::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The ids of the running containers.
async fn running(machine: &Machine) -> Vec<String> {
    let request = ListContainersRequest::default();
    let all = machine.runtime.runtime.clone().list_containers(request).await.unwrap().into_inner().containers;
    all.into_iter().filter(|one| one.state() == ContainerState::ContainerRunning).map(|one| one.id).collect()
}

async fn running_one(machine: &Machine) -> String {
    until(async || match running(machine).await.as_slice() {
        [id] => Some(id.clone()),
        _ => None,
    })
    .await
}

/// A kubelet whose API server never answers.
async fn kubelet(machine: &Machine, manifests: &Path) -> (JoinHandle<anyhow::Result<()>>, CancellationToken) {
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let config = pintle_kubelet::Config {
        node_name: "node".into(),
        root_dir: machine.path("kubelet"),
        pod_logs_dir: machine.path("pod-logs"),
        container_logs_dir: machine.path("container-logs"),
        static_pod_path: Some(manifests.into()),
        cgroups_per_qos: false,
        ..pintle_kubelet::Config::default()
    };
    let cancel = CancellationToken::new();
    let run = pintle_kubelet::run(client, machine.runtime.clone(), config, Metrics::default(), cancel.clone());
    (tokio::spawn(run), cancel)
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pods_outlive_their_kubelet_and_end_with_their_file() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let manifests = machine.path("manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    let (first, stop) = kubelet(&machine, &manifests).await;
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  hostNetwork: true\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - {{name: main, image: '{SHELL}', imagePullPolicy: Never, command: [sleep, '3600']}}\n"
    );
    // written elsewhere and moved in, as editors do
    std::fs::write(machine.path("web.yaml"), manifest).unwrap();
    std::fs::rename(machine.path("web.yaml"), manifests.join("web.yaml")).unwrap();
    let id = running_one(&machine).await;

    stop.cancel();
    first.await.unwrap().unwrap();
    assert_eq!(running(&machine).await, std::slice::from_ref(&id), "stopping the kubelet stops no container");

    let (second, stop) = kubelet(&machine, &manifests).await;
    assert_eq!(running_one(&machine).await, id, "the next kubelet starts nothing anew");
    let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    machine.runtime.runtime.clone().stop_container(request).await.unwrap();
    // restarted: the next kubelet has taken the pod over
    until(async || running(&machine).await.iter().any(|other| *other != id).then_some(())).await;
    std::fs::remove_file(manifests.join("web.yaml")).unwrap();
    until(async || running(&machine).await.is_empty().then_some(())).await;
    until(async || machine.is_gone("pod-logs").then_some(())).await;
    stop.cancel();
    second.await.unwrap().unwrap();
}
