//! Requests that make no sense, name what is not there, or come at the wrong time: refused, and nothing is left of them.
//!
//! Must not know: what sensible requests do.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use tonic::Code;

use super::demand;
use crate::bench::{Bench, Pod, command};
use crate::demand::{Demand, equal, failed, image, refused};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "request/empty",
        "calls without what they are about are refused, and the runtime goes on",
        "runtime.v1: required fields",
        empty
    ),
    demand!(
        "request/unknown-container",
        "calls for a container that is not there are refused",
        "runtime.v1 StartContainer, ExecSync, Exec, Attach, ReopenContainerLog",
        unknown_container
    ),
    demand!(
        "request/unknown-sandbox",
        "a container for a sandbox that is not there is refused",
        "runtime.v1 CreateContainer; kubelet's CreateContainerError",
        unknown_sandbox
    ),
    demand!(
        "request/gone-sandbox",
        "removing a sandbox that is not there is no error, stopping it neither, or NotFound",
        "runtime.v1 StopPodSandbox, RemovePodSandbox: idempotent; kubelet's KillPod: crierror.IsNotFound",
        gone_sandbox
    ),
    demand!(
        "request/unknown-image",
        "a container of an image that is not there is refused, and none is left",
        "runtime.v1 CreateContainer; kubelet's CreateContainerError",
        unknown_image
    ),
    demand!(
        "request/stopped-sandbox",
        "no container starts in a sandbox that was stopped",
        "runtime.v1 StopPodSandbox, StartContainer",
        stopped_sandbox
    ),
    demand!(
        "request/unknown-handler",
        "a sandbox with a handler that the runtime does not have is refused, and none is left",
        "runtime.v1 RunPodSandboxRequest.runtime_handler; RuntimeClass",
        unknown_handler
    ),
    demand!(
        "request/exec-created",
        "nothing runs in a container that was not started",
        "runtime.v1 ExecSync",
        exec_created
    ),
    demand!("request/exec-nothing", "a command of no words is refused", "runtime.v1 ExecSyncRequest.cmd", exec_nothing),
    demand!(
        "request/no-streams",
        "a command or an attachment without any stream is refused",
        "runtime.v1 ExecRequest, AttachRequest: one of stdin, stdout and stderr must be set",
        no_streams
    ),
    demand!(
        "request/terminal-stderr",
        "with a terminal, a stream of errors is refused",
        "runtime.v1 ExecRequest, AttachRequest: tty and stderr exclude each other",
        terminal_stderr
    ),
    demand!(
        "request/filters-unknown",
        "lists by what is not there are empty, and no errors",
        "runtime.v1 ListPodSandbox, ListContainers; kubelet's relist",
        filters_unknown
    ),
    demand!(
        "request/large",
        "labels and annotations of 200 KiB come back whole",
        "kubelet: annotations up to 256 KiB in all",
        large
    ),
    demand!(
        "request/given-up",
        "a call that its caller gives up leaves nothing behind once the pod is removed",
        "kubelet's runtimeRequestTimeout",
        given_up
    ),
];

async fn empty(bench: &Bench) -> anyhow::Result<()> {
    let mut cri = bench.cri();
    ensure!(cri.run_pod_sandbox(v1::RunPodSandboxRequest::default()).await.is_err(), "a sandbox of nothing");
    let nameless = v1::PodSandboxConfig { metadata: None, ..bench.pod_config() };
    let request = v1::RunPodSandboxRequest { config: Some(nameless), runtime_handler: String::new() };
    ensure!(cri.run_pod_sandbox(request).await.is_err(), "a sandbox without a name");
    ensure!(cri.create_container(v1::CreateContainerRequest::default()).await.is_err(), "a container of nothing");
    ensure!(cri.start_container(v1::StartContainerRequest::default()).await.is_err(), "a start of nothing");
    ensure!(cri.exec_sync(v1::ExecSyncRequest::default()).await.is_err(), "a command in nothing");
    ensure!(cri.exec(v1::ExecRequest::default()).await.is_err(), "a session in nothing");
    ensure!(cri.attach(v1::AttachRequest::default()).await.is_err(), "an attachment to nothing");
    let pod = bench.pod().await?;
    let whole = bench.container(&pod, &["wait"]);
    let nameless = v1::ContainerConfig { metadata: None, ..whole.clone() };
    for config in [nameless, v1::ContainerConfig { image: None, ..whole }] {
        ensure!(bench.create(&pod, config).await.is_err(), "a container without a name, or an image");
    }
    bench.waiting(&pod).await.map(drop)
}

async fn unknown_container(bench: &Bench) -> anyhow::Result<()> {
    let none = || "no-such-container".to_owned();
    failed("a start", bench.start(&none()).await)?;
    failed("a command", bench.exec(&none(), &["cwd"]).await)?;
    let exec = v1::ExecRequest { container_id: none(), cmd: command(&["cwd"]), stdout: true, ..Default::default() };
    failed("a session", bench.cri().exec(exec).await)?;
    let attach = v1::AttachRequest { container_id: none(), stdout: true, ..Default::default() };
    failed("an attachment", bench.cri().attach(attach).await)?;
    let reopen = v1::ReopenContainerLogRequest { container_id: none() };
    failed("a log's reopening", bench.cri().reopen_container_log(reopen).await)
}

async fn unknown_sandbox(bench: &Bench) -> anyhow::Result<()> {
    let none = Pod { id: "no-such-sandbox".into(), config: bench.pod_config() };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: none.id.clone(),
        config: Some(bench.container(&none, &["wait"])),
        sandbox_config: Some(none.config.clone()),
    };
    // a port may be refused when it is forwarded, and no sooner: its client hears of it all the same
    failed("a container", bench.cri().create_container(request).await)
}

async fn gone_sandbox(bench: &Bench) -> anyhow::Result<()> {
    let none = Pod { id: "no-such-sandbox".into(), config: bench.pod_config() };
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: none.id.clone() };
    let stopped = bench.cri().stop_pod_sandbox(request).await;
    if stopped.is_err() {
        refused("the stop", stopped, Code::NotFound)?;
    }
    bench.remove_pod(&none).await
}

/// The containers that the runtime has of a pod.
async fn left(bench: &Bench, pod: &Pod) -> anyhow::Result<usize> {
    let filter = Some(v1::ContainerFilter { pod_sandbox_id: pod.id.clone(), ..Default::default() });
    Ok(bench.cri().list_containers(v1::ListContainersRequest { filter }).await?.into_inner().containers.len())
}

async fn unknown_image(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.image = Some(image(&bench.shared.registry.tagged("never-pulled")));
    ensure!(bench.create(&pod, config).await.is_err(), "it was created");
    equal("how many containers are left", left(bench, &pod).await?, 0)?;
    // its name is free again
    bench.waiting(&pod).await.map(drop)
}

async fn stopped_sandbox(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let created = bench.create(&pod, bench.container(&pod, &["wait"])).await?;
    bench.stop_pod(&pod).await?;
    ensure!(bench.start(&created).await.is_err(), "the one that was created was started");
    let late = bench.run(&pod, Bench::named(bench.container(&pod, &["wait"]), "late")).await;
    ensure!(late.is_err(), "another was started");
    Ok(())
}

async fn unknown_handler(bench: &Bench) -> anyhow::Result<()> {
    let config = bench.pod_config();
    let labels = config.labels.clone();
    let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: "no-such-handler".into() };
    ensure!(bench.cri().run_pod_sandbox(request).await.is_err(), "it runs");
    let filter = Some(v1::PodSandboxFilter { label_selector: labels, ..Default::default() });
    let items = bench.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter }).await?.into_inner().items;
    equal("how many sandboxes are left", items.len(), 0)
}

async fn exec_created(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.create(&pod, bench.container(&pod, &["wait"])).await?;
    ensure!(bench.exec(&id, &["cwd"]).await.is_err(), "it ran");
    Ok(())
}

async fn exec_nothing(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: Vec::new(), timeout: 10 };
    if let Ok(done) = bench.cri().exec_sync(request).await {
        ensure!(done.into_inner().exit_code != 0, "it went well");
    }
    bench.said(&id, &["cwd"]).await.map(drop)
}

async fn no_streams(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let exec = v1::ExecRequest { container_id: id.clone(), cmd: command(&["cwd"]), ..Default::default() };
    ensure!(bench.cri().exec(exec).await.is_err(), "a command has a URL");
    let attach = v1::AttachRequest { container_id: id, ..Default::default() };
    ensure!(bench.cri().attach(attach).await.is_err(), "an attachment has a URL");
    Ok(())
}

async fn terminal_stderr(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let cmd = command(&["cwd"]);
    let request = v1::ExecRequest { container_id: id, cmd, tty: true, stdin: true, stdout: true, stderr: true };
    ensure!(bench.cri().exec(request).await.is_err(), "it has a URL");
    Ok(())
}

async fn filters_unknown(bench: &Bench) -> anyhow::Result<()> {
    let filter = Some(v1::PodSandboxFilter { id: "no-such-sandbox".into(), ..Default::default() });
    let sandboxes = bench.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter }).await?.into_inner().items;
    equal("how many sandboxes there are", sandboxes.len(), 0)?;
    for filter in [
        v1::ContainerFilter { id: "no-such-container".into(), ..Default::default() },
        v1::ContainerFilter { pod_sandbox_id: "no-such-sandbox".into(), ..Default::default() },
    ] {
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let containers = bench.cri().list_containers(request).await?.into_inner().containers;
        equal("how many containers there are", containers.len(), 0)?;
    }
    Ok(())
}

async fn large(bench: &Bench) -> anyhow::Result<()> {
    let mut config = bench.pod_config();
    let text: String = (0..200 << 10).map(|at: u32| char::from(b'a' + (at % 26) as u8)).collect();
    config.annotations.insert("a.b/large".into(), text.clone());
    let pod = bench.run_pod(config).await?;
    let found = bench.pod_status(&pod).await?.annotations;
    ensure!(found.get("a.b/large") == Some(&text), "the sandbox's annotation did not come back");
    let mut config = bench.container(&pod, &["wait"]);
    config.annotations.insert("a.b/large".into(), text.clone());
    let id = bench.create(&pod, config).await?;
    let found = bench.status(&id).await?.annotations;
    ensure!(found.get("a.b/large") == Some(&text), "the container's annotation did not come back");
    Ok(())
}

async fn given_up(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    for number in 0..5_u64 {
        let create = bench.run(&pod, Bench::named(bench.container(&pod, &["wait"]), &format!("number-{number}")));
        // whether it comes about in this time matters not
        let _ = tokio::time::timeout(std::time::Duration::from_millis(10 * number), create).await;
    }
    bench.stop_pod(&pod).await?;
    let gone = async || {
        // what still came about while the pod was stopped
        let removed = bench.remove_pod(&pod).await;
        Ok(removed.is_ok() && left(bench, &pod).await? == 0)
    };
    bench.until("no container is left", gone).await?;
    refused("the sandbox's status", bench.pod_status(&pod).await, Code::NotFound).context("after it was removed")
}
