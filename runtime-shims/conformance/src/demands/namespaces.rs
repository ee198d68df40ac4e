//! Which namespaces containers share: with each other, with the host, with nobody.
//!
//! Must not know: what else sandboxes do.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::NamespaceMode as Mode;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "sandbox/network-of-pod",
        "containers of a pod share a network that is not the host's",
        "runtime.v1 NamespaceOption.network POD",
        network_of_pod
    ),
    demand!(
        "sandbox/network-of-host",
        "a pod on the host's network is in the host's namespace",
        "runtime.v1 NamespaceOption.network NODE",
        network_of_host
    ),
    demand!(
        "sandbox/pid-of-container",
        "a container's process is the first of a PID namespace of its own",
        "runtime.v1 NamespaceOption.pid CONTAINER",
        pid_of_container
    ),
    demand!(
        "sandbox/pid-of-pod",
        "containers of a pod share a PID namespace that is not the host's, and none is its first process",
        "runtime.v1 NamespaceOption.pid POD; Pod's shareProcessNamespace",
        pid_of_pod
    ),
    demand!(
        "sandbox/pid-of-host",
        "a pod with the host's PIDs is in the host's namespace",
        "runtime.v1 NamespaceOption.pid NODE; Pod's hostPID",
        pid_of_host
    ),
    demand!(
        "sandbox/pid-of-target",
        "a container joins the PID namespace of the container that it targets",
        "runtime.v1 NamespaceOption.pid TARGET, target_id; ephemeral containers",
        pid_of_target
    ),
    demand!(
        "sandbox/ipc-of-pod",
        "containers of a pod share an IPC namespace that is not the host's",
        "runtime.v1 NamespaceOption.ipc POD",
        ipc_of_pod
    ),
    demand!(
        "sandbox/ipc-of-host",
        "a pod with the host's IPC is in the host's namespace",
        "runtime.v1 NamespaceOption.ipc NODE; Pod's hostIPC",
        ipc_of_host
    ),
];

fn hosts(kind: &str) -> anyhow::Result<String> {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).context("reading the host's namespace")?;
    Ok(link.display().to_string())
}

async fn namespace(bench: &Bench, id: &str, kind: &str) -> anyhow::Result<String> {
    bench.said(id, &["link", &format!("/proc/self/ns/{kind}")]).await
}

async fn second(bench: &Bench, pod: &Pod) -> anyhow::Result<String> {
    let mut config = bench.container(pod, &["wait"]);
    config.metadata = Some(v1::ContainerMetadata { name: "second".into(), attempt: 0 });
    config.log_path = "second.log".into();
    bench.run(pod, config).await
}

async fn shared_by_pod(bench: &Bench, config: v1::PodSandboxConfig, kind: &str) -> anyhow::Result<String> {
    let pod = bench.run_pod(config).await?;
    let (first, second) = (bench.waiting(&pod).await?, second(bench, &pod).await?);
    let found = namespace(bench, &first, kind).await?;
    equal("the second container's namespace", namespace(bench, &second, kind).await?, found.as_str())?;
    ensure!(found != hosts(kind)?, "it is the host's");
    Ok(first)
}

async fn shared_with_host(bench: &Bench, config: v1::PodSandboxConfig, kind: &str) -> anyhow::Result<()> {
    let pod = bench.run_pod(config).await?;
    let id = bench.waiting(&pod).await?;
    equal("the namespace", namespace(bench, &id, kind).await?, hosts(kind)?)
}

async fn network_of_pod(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    shared_by_pod(bench, bench.pod_config(), "net").await.map(drop)
}

async fn network_of_host(bench: &Bench) -> anyhow::Result<()> {
    shared_with_host(bench, bench.pod_config_with(|it| it.network = Mode::Node.into()), "net").await
}

async fn pid_of_container(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let (first, second) = (bench.waiting(&pod).await?, second(bench, &pod).await?);
    let (one, other) = (namespace(bench, &first, "pid").await?, namespace(bench, &second, "pid").await?);
    ensure!(one != other && one != hosts("pid")?, "{one} is shared");
    let first = bench.said(&first, &["cat", "/proc/1/cmdline"]).await?;
    equal("the first process", first.trim_end_matches('\0'), "/program\0wait")
}

async fn pid_of_pod(bench: &Bench) -> anyhow::Result<()> {
    let config = bench.pod_config_with(|it| it.pid = Mode::Pod.into());
    let id = shared_by_pod(bench, config, "pid").await?;
    let first = bench.said(&id, &["cat", "/proc/1/cmdline"]).await?;
    ensure!(!first.starts_with("/program"), "a container is the first process");
    Ok(())
}

async fn pid_of_host(bench: &Bench) -> anyhow::Result<()> {
    shared_with_host(bench, bench.pod_config_with(|it| it.pid = Mode::Node.into()), "pid").await
}

async fn pid_of_target(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let target = bench.waiting(&pod).await?;
    let mut config = bench.secured(&pod, &["link", "/proc/self/ns/pid"], |context| {
        if let Some(namespaces) = context.namespace_options.as_mut() {
            namespaces.pid = Mode::Target.into();
            namespaces.target_id = target.clone();
        }
    });
    config.metadata = Some(v1::ContainerMetadata { name: "guest".into(), attempt: 0 });
    config.log_path = "guest.log".into();
    let found = bench.printed(&pod, config).await?;
    equal("the guest's namespace", found.trim_end(), namespace(bench, &target, "pid").await?)
}

async fn ipc_of_pod(bench: &Bench) -> anyhow::Result<()> {
    shared_by_pod(bench, bench.pod_config(), "ipc").await.map(drop)
}

async fn ipc_of_host(bench: &Bench) -> anyhow::Result<()> {
    shared_with_host(bench, bench.pod_config_with(|it| it.ipc = Mode::Node.into()), "ipc").await
}
