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
use crate::demand::{Demand, Skip, equal, holds, refused};

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
    demand!(
        "sandbox/list-fields",
        "a list tells of each sandbox what kubelets compare",
        "runtime.v1 PodSandbox: metadata, state, created_at, labels, annotations",
        list_fields
    ),
    demand!(
        "sandbox/namespaces-told",
        "a sandbox's status tells its namespaces' modes as they were asked for",
        "runtime.v1 PodSandboxStatus.linux.namespaces; kubelet's PodSandboxChanged",
        namespaces_told
    ),
    demand!(
        "sandbox/statuses-told",
        "where containers' statuses come with the sandbox's, they are all its containers'",
        "runtime.v1 PodSandboxStatusResponse.containers_statuses, timestamp; kubelet's evented PLEG",
        statuses_told
    ),
    demand!(
        "sandbox/remove-running",
        "removing a sandbox that runs ends and removes its containers",
        "runtime.v1 RemovePodSandbox: forcible",
        remove_running
    ),
    demand!(
        "sandbox/next-attempt",
        "after a sandbox was stopped, another attempt of the pod runs beside it, with a log of its own",
        "runtime.v1 PodSandboxMetadata.attempt; kubelet's createPodSandbox",
        next_attempt
    ),
    demand!(
        "sandbox/same-uid-twice",
        "the same pod and attempt is not made a second time while the first is there: it is refused, or answered with the \
         first",
        "runtime.v1 PodSandboxMetadata: unique",
        same_twice
    ),
    demand!(
        "sandbox/hostname-of-host",
        "on the host's network containers see the host's name",
        "runtime.v1 PodSandboxConfig.hostname, NamespaceOption.network NODE",
        hostname_of_host
    ),
    demand!(
        "sandbox/hostname-environment",
        "a container's HOSTNAME is its pod's hostname",
        "runtime.v1 PodSandboxConfig.hostname; users' programs",
        hostname_environment
    ),
    demand!(
        "sandbox/sysctls-of-network",
        "sysctls of the network are set in the pod's namespace, and the host's are as they were",
        "runtime.v1 LinuxPodSandboxConfig.sysctls; Pod's sysctls",
        sysctls_of_network
    ),
    demand!(
        "sandbox/sysctls-unknown",
        "a sysctl that the kernel does not have is refused, and no sandbox stays ready",
        "runtime.v1 LinuxPodSandboxConfig.sysctls; kubelet's FailedCreatePodSandBox",
        sysctls_unknown
    ),
    demand!(
        "sandbox/addresses-differ",
        "two pods have two addresses, and reach each other",
        "Kubernetes' network model: every pod an address of its own",
        addresses_differ
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
    holds("labels", &status.labels, &pod.config.labels)?;
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
    let id = bench.ready(&pod, bench.container(&pod, &["stubborn"])).await?;
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

async fn list_fields(bench: &Bench) -> anyhow::Result<()> {
    let mut config = bench.pod_config();
    config.annotations.insert("a.b/c".into(), "a note".into());
    let pod = bench.run_pod(config).await?;
    let filter = Some(v1::PodSandboxFilter { id: pod.id.clone(), ..Default::default() });
    let items = bench.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter }).await?.into_inner().items;
    let found = items.first().context("it is not listed")?;
    equal("metadata", &found.metadata, &pod.config.metadata)?;
    holds("labels", &found.labels, &pod.config.labels)?;
    equal("annotations", &found.annotations, &pod.config.annotations)?;
    equal("state", found.state(), State::SandboxReady)?;
    equal("created_at", found.created_at, bench.pod_status(&pod).await?.created_at)
}

async fn namespaces_told(bench: &Bench) -> anyhow::Result<()> {
    use v1::NamespaceMode as Mode;
    let of_host = |it: &mut v1::NamespaceOption| {
        (it.network, it.pid, it.ipc) = (Mode::Node.into(), Mode::Node.into(), Mode::Node.into());
    };
    let shared = |it: &mut v1::NamespaceOption| it.pid = Mode::Pod.into();
    for config in [bench.pod_config(), bench.pod_config_with(of_host), bench.pod_config_with(shared)] {
        let pod = bench.run_pod(config).await?;
        let linux = bench.pod_status(&pod).await?.linux.context("no linux")?;
        let told = linux.namespaces.and_then(|it| it.options).context("no namespaces")?;
        let context = pod.config.linux.and_then(|it| it.security_context).context("no context")?;
        let asked = context.namespace_options.context("no options")?;
        equal("network", told.network(), asked.network())?;
        equal("pid", told.pid(), asked.pid())?;
        equal("ipc", told.ipc(), asked.ipc())?;
    }
    Ok(())
}

async fn statuses_told(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
    let answer = bench.cri().pod_sandbox_status(request).await?.into_inner();
    if answer.containers_statuses.is_empty() && answer.timestamp == 0 {
        return Err(Skip("the runtime tells none: kubelets ask for each container then".into()).into());
    }
    ensure!(answer.timestamp > 0, "timestamp is not set");
    let ids: Vec<_> = answer.containers_statuses.iter().map(|one| one.id.clone()).collect();
    equal("containers_statuses", ids, vec![id])
}

async fn remove_running(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.ready(&pod, bench.container(&pod, &["stubborn"])).await?;
    bench.remove_pod(&pod).await?;
    refused("the sandbox's status", bench.pod_status(&pod).await, Code::NotFound)?;
    refused("the container's status", bench.status(&id).await, Code::NotFound)
}

async fn next_attempt(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    bench.stop_pod(&pod).await?;
    let mut config = pod.config.clone();
    if let Some(metadata) = config.metadata.as_mut() {
        metadata.attempt = 1;
    }
    let next = bench.run_pod(config).await?;
    ensure!(next.id != pod.id, "it is the same sandbox");
    equal("the state of the first", bench.pod_status(&pod).await?.state(), State::SandboxNotready)?;
    equal("attempt", bench.pod_status(&next).await?.metadata.map(|it| it.attempt), Some(1))?;
    bench.waiting(&next).await.map(drop)
}

async fn same_twice(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    if let Ok(again) = bench.run_pod(pod.config.clone()).await {
        equal("the second answer's sandbox", &again.id, &pod.id)?;
    }
    let filter = Some(v1::PodSandboxFilter { label_selector: pod.config.labels.clone(), ..Default::default() });
    let listed = bench.cri().list_pod_sandbox(v1::ListPodSandboxRequest { filter }).await?.into_inner().items;
    equal("the number of sandboxes", listed.len(), 1)?;
    bench.waiting(&pod).await.map(drop)
}

async fn hostname_of_host(bench: &Bench) -> anyhow::Result<()> {
    let config = bench.pod_config_with(|it| it.network = v1::NamespaceMode::Node.into());
    let pod = bench.run_pod(config).await?;
    let id = bench.waiting(&pod).await?;
    let hosts = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    equal("the hostname", bench.said(&id, &["cat", "/proc/sys/kernel/hostname"]).await?, hosts.trim_end())
}

async fn hostname_environment(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let pod = bench.run_pod(v1::PodSandboxConfig { hostname: "some-host".into(), ..bench.pod_config() }).await?;
    let environment = bench.printed(&pod, bench.container(&pod, &["env"])).await?;
    ensure!(environment.lines().any(|line| line == "HOSTNAME=some-host"), "the environment is {environment:?}");
    Ok(())
}

fn with_sysctls(bench: &Bench, sysctls: &[(&str, &str)]) -> v1::PodSandboxConfig {
    let mut config = bench.pod_config();
    if let Some(linux) = config.linux.as_mut() {
        linux.sysctls = sysctls.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }
    config
}

async fn sysctls_of_network(bench: &Bench) -> anyhow::Result<()> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    bench.needs_pod_network()?;
    let before = std::fs::read_to_string(PATH)?;
    let config = with_sysctls(bench, &[("net.ipv4.ip_local_port_range", "40000 41000"), ("net.core.somaxconn", "77")]);
    let pod = bench.run_pod(config).await?;
    let id = bench.waiting(&pod).await?;
    equal("the port range", bench.said(&id, &["cat", PATH]).await?.as_str(), "40000\t41000")?;
    equal("somaxconn", bench.said(&id, &["cat", "/proc/sys/net/core/somaxconn"]).await?.as_str(), "77")?;
    equal("the host's port range", std::fs::read_to_string(PATH)?, before)
}

async fn sysctls_unknown(bench: &Bench) -> anyhow::Result<()> {
    let config = with_sysctls(bench, &[("kernel.shm_no_such_sysctl", "1")]);
    ensure!(bench.run_pod(config.clone()).await.is_err(), "it runs");
    let state = Some(v1::PodSandboxStateValue { state: State::SandboxReady.into() });
    let ready = v1::PodSandboxFilter { state, label_selector: config.labels, ..Default::default() };
    equal("the sandboxes that are ready", listed(bench, ready).await?, Vec::<String>::new())
}

async fn addresses_differ(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let (pod, other) = (bench.pod().await?, bench.pod().await?);
    let mut addresses = Vec::new();
    for one in [&pod, &other] {
        addresses.push(bench.pod_status(one).await?.network.context("no network")?.ip);
    }
    ensure!(addresses[0] != addresses[1], "both are {}", addresses[0]);
    bench.ready(&pod, bench.container(&pod, &["answer", "8080"])).await?;
    let asks = bench.container(&other, &["ask", &format!("{}:8080", addresses[0])]);
    equal("what the other hears", bench.printed(&other, asks).await?.trim_end(), "the answer")
}
