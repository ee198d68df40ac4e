//! Pod sandboxes: life cycle, lists, names, network.
//!
//! Must not know: containers' inside.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use pintle_cri::v1;
use pintle_cri::v1::PodSandboxState as State;
use tonic::Code;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, equal, refused};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "sandbox/status",
        "a sandbox that runs is ready, and tells what it was asked for and when it was made",
        "runtime.v1 PodSandboxStatus",
        status
    ),
    demand!(
        "sandbox/list",
        "sandboxes are found by id, by state and by labels",
        "runtime.v1 ListPodSandbox.filter",
        list
    ),
    demand!(
        "sandbox/stop",
        "a stopped sandbox is not ready, and can be stopped again",
        "runtime.v1 StopPodSandbox: idempotent",
        stop
    ),
    demand!(
        "sandbox/stop-ends-containers",
        "stopping a sandbox ends its containers",
        "runtime.v1 StopPodSandbox: running containers are terminated",
        stop_ends_containers
    ),
    demand!(
        "sandbox/remove",
        "a removed sandbox is not found any more, its containers neither, and can be removed again",
        "runtime.v1 RemovePodSandbox: idempotent, containers are removed",
        remove
    ),
    demand!(
        "sandbox/unknown",
        "the status of a sandbox that is not there is refused with NotFound",
        "kubelet's crierror.IsNotFound",
        unknown
    ),
    demand!("sandbox/hostname", "containers see the pod's hostname", "runtime.v1 PodSandboxConfig.hostname", hostname),
    demand!(
        "sandbox/dns",
        "containers have a resolv.conf of the pod's servers, searches and options",
        "runtime.v1 PodSandboxConfig.dns_config",
        dns
    ),
    demand!(
        "sandbox/address",
        "a pod with a network of its own has an address, and tells it",
        "runtime.v1 PodSandboxStatus.network.ip",
        address
    ),
    demand!(
        "sandbox/sysctls",
        "sysctls are set in the pod's namespaces",
        "runtime.v1 LinuxPodSandboxConfig.sysctls",
        sysctls
    ),
];

async fn status(bench: &Bench) -> anyhow::Result<()> {
    let mut config = bench.pod_config();
    config.labels.insert("app".into(), "it".into());
    config.annotations.insert("a.b/c".into(), "a note".into());
    let pod = bench.run_pod(config).await?;
    let status = bench.pod_status(&pod).await?;
    equal("state", status.state(), State::SandboxReady)?;
    equal("id", &status.id, &pod.id)?;
    equal("metadata", &status.metadata, &pod.config.metadata)?;
    equal("labels", &status.labels, &pod.config.labels)?;
    equal("annotations", &status.annotations, &pod.config.annotations)?;
    ensure!(status.created_at > 0, "created_at is not set");
    Ok(())
}

async fn listed(bench: &Bench, filter: v1::PodSandboxFilter) -> anyhow::Result<Vec<String>> {
    let request = v1::ListPodSandboxRequest { filter: Some(filter) };
    let items = bench.cri().list_pod_sandbox(request).await?.into_inner().items;
    Ok(items.into_iter().map(|one| one.id).collect())
}

async fn list(bench: &Bench) -> anyhow::Result<()> {
    let (kept, stopped) = (bench.pod().await?, bench.pod().await?);
    bench.stop_pod(&stopped).await?;
    let by_id = v1::PodSandboxFilter { id: kept.id.clone(), ..Default::default() };
    equal("the list by id", listed(bench, by_id).await?, [kept.id.clone()])?;
    let of_test = v1::PodSandboxFilter { label_selector: kept.config.labels.clone(), ..Default::default() };
    let both = listed(bench, of_test.clone()).await?;
    ensure!(both.len() == 2 && both.contains(&kept.id) && both.contains(&stopped.id), "the list by label is {both:?}");
    for (state, demanded) in [(State::SandboxReady, &kept), (State::SandboxNotready, &stopped)] {
        let state = Some(v1::PodSandboxStateValue { state: state.into() });
        let filter = v1::PodSandboxFilter { state, ..of_test.clone() };
        equal("the list by state", listed(bench, filter).await?, [demanded.id.clone()])?;
    }
    let other =
        v1::PodSandboxFilter { label_selector: [("no".to_owned(), "such".to_owned())].into(), ..Default::default() };
    equal("the list by a label that none has", listed(bench, other).await?, Vec::<String>::new())
}

async fn stop(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    bench.stop_pod(&pod).await?;
    equal("state", bench.pod_status(&pod).await?.state(), State::SandboxNotready)?;
    bench.stop_pod(&pod).await.context("again")
}

async fn stop_ends_containers(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["stubborn"])).await?;
    bench.stop_pod(&pod).await?;
    equal("state", bench.status(&id).await?.state(), v1::ContainerState::ContainerExited)
}

async fn remove(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    bench.stop_pod(&pod).await?;
    bench.remove_pod(&pod).await?;
    refused("the sandbox's status", bench.pod_status(&pod).await, Code::NotFound)?;
    refused("the container's status", bench.status(&id).await, Code::NotFound)?;
    bench.remove_pod(&pod).await.context("again")
}

async fn unknown(bench: &Bench) -> anyhow::Result<()> {
    let none = Pod { id: "no-such-sandbox".into(), config: bench.pod_config() };
    refused("its status", bench.pod_status(&none).await, Code::NotFound)
}

async fn hostname(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let pod = bench.run_pod(v1::PodSandboxConfig { hostname: "some-host".into(), ..bench.pod_config() }).await?;
    let id = bench.waiting(&pod).await?;
    equal("the hostname", bench.said(&id, &["cat", "/proc/sys/kernel/hostname"]).await?, "some-host")
}

async fn dns(bench: &Bench) -> anyhow::Result<()> {
    let dns_config = v1::DnsConfig {
        servers: vec!["192.0.2.53".into()],
        searches: vec!["svc.example".into(), "example".into()],
        options: vec!["ndots:3".into()],
    };
    let pod = bench.run_pod(v1::PodSandboxConfig { dns_config: Some(dns_config), ..bench.pod_config() }).await?;
    let text = bench.printed(&pod, bench.container(&pod, &["cat", "/etc/resolv.conf"])).await?;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for demanded in [&["nameserver", "192.0.2.53"][..], &["search", "svc.example", "example"], &["options", "ndots:3"]]
    {
        ensure!(lines.iter().any(|line| line == demanded), "no {demanded:?} in {text:?}");
    }
    Ok(())
}

async fn address(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let pod = bench.pod().await?;
    let network = bench.pod_status(&pod).await?.network.context("no network in the status")?;
    let address: IpAddr = network.ip.parse().with_context(|| format!("{:?} is no address", network.ip))?;
    let id = bench.waiting(&pod).await?;
    let table = if address.is_ipv4() { "/proc/self/net/fib_trie" } else { "/proc/self/net/if_inet6" };
    let table = bench.said(&id, &["cat", table]).await?;
    ensure!(address.is_ipv6() || table.contains(&network.ip), "{address} is not in the pod:\n{table}");
    Ok(())
}

async fn sysctls(bench: &Bench) -> anyhow::Result<()> {
    let mut config = bench.pod_config();
    if let Some(linux) = config.linux.as_mut() {
        linux.sysctls = [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into();
    }
    let pod = bench.run_pod(config).await?;
    let id = bench.waiting(&pod).await?;
    equal("the sysctl", bench.said(&id, &["cat", "/proc/sys/kernel/shm_rmid_forced"]).await?, "1")
}
