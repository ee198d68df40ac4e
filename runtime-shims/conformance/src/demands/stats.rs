//! What is counted: of containers, of pods, for the kubelet's summary and for its metrics.
//!
//! Must not know: where the counts come from.

use anyhow::{Context as _, ensure};
use pintle_cri::v1;

use super::demand;
use crate::bench::{Bench, Pod};
use crate::cgroup::Parent;
use crate::demand::{Demand, equal, failed, holds, optional};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "stats/container",
        "a running container's processor time and memory are counted, with the time of counting",
        "runtime.v1 ContainerStats; kubelet's CRI stats provider",
        container
    ),
    demand!(
        "stats/container-processor",
        "processor time grows with what a container does",
        "runtime.v1 CpuUsage.usage_core_nano_seconds; kubectl top",
        processor
    ),
    demand!(
        "stats/container-attributes",
        "statistics name the container, its labels and annotations",
        "runtime.v1 ContainerAttributes",
        attributes
    ),
    demand!(
        "stats/container-writable-layer",
        "what a container wrote to its root is counted",
        "runtime.v1 ContainerStats.writable_layer; ephemeral-storage limits",
        writable_layer
    ),
    demand!(
        "stats/container-unknown",
        "statistics of a container that is not there are refused",
        "runtime.v1 ContainerStats",
        container_unknown
    ),
    demand!(
        "stats/containers-listed",
        "statistics are found by id, by sandbox and by labels",
        "runtime.v1 ListContainerStats.filter",
        containers_listed
    ),
    demand!(
        "stats/pod",
        "a pod's processor time, memory and processes are counted, and its containers'",
        "runtime.v1 PodSandboxStats; PodAndContainerStatsFromCRI",
        pod
    ),
    demand!(
        "stats/pod-network",
        "what a pod sent and received is counted by interface",
        "runtime.v1 NetworkUsage.default_interface; PodAndContainerStatsFromCRI",
        pod_network
    ),
    demand!(
        "stats/pods-listed",
        "pods' statistics are found by id and by labels",
        "runtime.v1 ListPodSandboxStats.filter",
        pods_listed
    ),
    demand!(
        "stats/pod-unknown",
        "statistics of a sandbox that is not there are refused",
        "runtime.v1 PodSandboxStats",
        pod_unknown
    ),
    demand!(
        "stats/metrics",
        "every metric of a pod is described, and has a value for each of its labels",
        "runtime.v1 ListMetricDescriptors, ListPodSandboxMetrics; KEP-2371",
        metrics
    ),
];

fn value(value: Option<v1::UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

async fn stats_of(bench: &Bench, id: &str) -> anyhow::Result<v1::ContainerStats> {
    let request = v1::ContainerStatsRequest { container_id: id.into() };
    let answer = bench.cri().container_stats(request).await.context("ContainerStats")?;
    answer.into_inner().stats.context("no stats")
}

async fn container(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory"])?;
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let counted = async || {
        let stats = stats_of(bench, &id).await?;
        let (cpu, memory) = (stats.cpu.context("no cpu")?, stats.memory.context("no memory")?);
        ensure!(cpu.timestamp > 0 && memory.timestamp > 0, "no time");
        Ok(value(cpu.usage_core_nano_seconds) > 0 && value(memory.working_set_bytes) > 0)
    };
    bench.until("processor time and memory are counted", counted).await
}

async fn processor(bench: &Bench) -> anyhow::Result<()> {
    const SPUN: u64 = 300;
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let used = async || {
        let cpu = stats_of(bench, &id).await?.cpu;
        Ok::<_, anyhow::Error>(value(cpu.and_then(|cpu| cpu.usage_core_nano_seconds)))
    };
    let before = used().await?;
    bench.said(&id, &["spin", &SPUN.to_string()]).await?;
    // what the process used before it was in the container's cgroup is not the container's
    let grown = async || Ok(used().await? >= before + SPUN * 1_000_000 / 4);
    bench.until("processor time has grown", grown).await
}

async fn attributes(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["wait"]);
    config.annotations.insert("a.b/c".into(), "a note".into());
    let id = bench.ready(&pod, config.clone()).await?;
    let found = stats_of(bench, &id).await?.attributes.context("no attributes")?;
    equal("id", &found.id, &id)?;
    equal("metadata", &found.metadata, &config.metadata)?;
    holds("labels", &found.labels, &config.labels)?;
    equal("annotations", &found.annotations, &config.annotations)
}

async fn writable_layer(bench: &Bench) -> anyhow::Result<()> {
    const WRITTEN: usize = 1 << 20;
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    // longer than an argument may be
    for name in 0..16 {
        let text = "x".repeat(WRITTEN / 16);
        bench.said(&id, &["write", &format!("/tmp/{name}"), &text]).await?;
    }
    let counted = async || {
        let layer = stats_of(bench, &id).await?.writable_layer.context("no writable_layer")?;
        let path = layer.fs_id.as_ref().map_or("", |id| id.mountpoint.as_str());
        ensure!(path.starts_with('/'), "fs_id.mountpoint is {path:?}");
        Ok(value(layer.used_bytes) >= WRITTEN as u64 && value(layer.inodes_used) > 16)
    };
    bench.until("what was written is counted", counted).await
}

async fn container_unknown(bench: &Bench) -> anyhow::Result<()> {
    let request = v1::ContainerStatsRequest { container_id: "no-such-container".into() };
    failed("it", bench.cri().container_stats(request).await)
}

async fn listed(bench: &Bench, filter: v1::ContainerStatsFilter) -> anyhow::Result<Vec<String>> {
    let request = v1::ListContainerStatsRequest { filter: Some(filter) };
    let stats = bench.cri().list_container_stats(request).await.context("ListContainerStats")?.into_inner().stats;
    Ok(stats.into_iter().filter_map(|one| Some(one.attributes?.id)).collect())
}

async fn containers_listed(bench: &Bench) -> anyhow::Result<()> {
    let (pod, other) = (bench.pod().await?, bench.pod().await?);
    let (id, elsewhere) = (bench.waiting(&pod).await?, bench.waiting(&other).await?);
    let by_id = v1::ContainerStatsFilter { id: id.clone(), ..Default::default() };
    equal("the list by id", listed(bench, by_id).await?, [id.clone()])?;
    let by_pod = v1::ContainerStatsFilter { pod_sandbox_id: other.id.clone(), ..Default::default() };
    equal("the list by sandbox", listed(bench, by_pod).await?, [elsewhere.clone()])?;
    let of_test = v1::ContainerStatsFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    let mut both = listed(bench, of_test).await?;
    both.sort();
    let mut demanded = vec![id, elsewhere];
    demanded.sort();
    equal("the list by labels", both, demanded)
}

async fn pod_stats(bench: &Bench, pod: &Pod) -> anyhow::Result<v1::PodSandboxStats> {
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    optional("PodSandboxStats", bench.cri().pod_sandbox_stats(request).await)?.stats.context("no stats")
}

async fn pod(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_controllers(&["memory", "pids"])?;
    let parent = Parent::make(bench).await?;
    let pod = bench.run_pod(parent.of(bench.pod_config())).await?;
    let id = bench.waiting(&pod).await?;
    let counted = async || {
        let stats = pod_stats(bench, &pod).await?;
        let attributes = stats.attributes.context("no attributes")?;
        equal("attributes.id", &attributes.id, &pod.id)?;
        equal("attributes.metadata", &attributes.metadata, &pod.config.metadata)?;
        let linux = stats.linux.context("no linux")?;
        let named = linux.containers.iter().any(|one| one.attributes.as_ref().is_some_and(|it| it.id == id));
        ensure!(named, "the container is not in it");
        let processes = value(linux.process.and_then(|it| it.process_count));
        let cpu = value(linux.cpu.and_then(|cpu| cpu.usage_core_nano_seconds));
        let memory = value(linux.memory.and_then(|memory| memory.working_set_bytes));
        Ok(cpu > 0 && memory > 0 && processes > 0)
    };
    bench.until("processor time, memory and processes are counted", counted).await
}

async fn pod_network(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let parent = Parent::make(bench).await?;
    let pod = bench.run_pod(parent.of(bench.pod_config())).await?;
    bench.waiting(&pod).await?;
    let linux = pod_stats(bench, &pod).await?.linux.context("no linux")?;
    let interface = linux.network.context("no network")?.default_interface.context("no default_interface")?;
    equal("its name", interface.name.as_str(), "eth0")?;
    ensure!(interface.rx_bytes.is_some() && interface.tx_bytes.is_some(), "no bytes in {interface:?}");
    Ok(())
}

async fn pods_listed(bench: &Bench) -> anyhow::Result<()> {
    let parent = Parent::make(bench).await?;
    let config = || parent.of(bench.pod_config());
    let (pod, other) = (bench.run_pod(config()).await?, bench.run_pod(config()).await?);
    let by_id = v1::PodSandboxStatsFilter { id: other.id.clone(), ..Default::default() };
    let of_test = v1::PodSandboxStatsFilter { label_selector: pod.config.labels.clone(), ..Default::default() };
    for (filter, demanded) in [(by_id, vec![other.id.clone()]), (of_test, vec![pod.id.clone(), other.id.clone()])] {
        let request = v1::ListPodSandboxStatsRequest { filter: Some(filter) };
        let stats = optional("ListPodSandboxStats", bench.cri().list_pod_sandbox_stats(request).await)?.stats;
        let mut found: Vec<_> = stats.into_iter().filter_map(|one| Some(one.attributes?.id)).collect();
        let mut demanded = demanded;
        found.sort();
        demanded.sort();
        equal("the list", found, demanded)?;
    }
    Ok(())
}

async fn pod_unknown(bench: &Bench) -> anyhow::Result<()> {
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: "no-such-sandbox".into() };
    let answer = bench.cri().pod_sandbox_stats(request).await;
    if answer.as_ref().is_err_and(|status| status.code() == tonic::Code::Unimplemented) {
        return optional("PodSandboxStats", answer).map(drop);
    }
    failed("it", answer)
}

async fn metrics(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let described = bench.cri().list_metric_descriptors(v1::ListMetricDescriptorsRequest {}).await;
    let described = optional("ListMetricDescriptors", described)?.descriptors;
    let listed = bench.cri().list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).await;
    let pods = optional("ListPodSandboxMetrics", listed)?.pod_metrics;
    let of_pod = pods.into_iter().find(|one| one.pod_sandbox_id == pod.id).context("the pod has no metrics")?;
    let of_container = of_pod.container_metrics.iter().find(|one| one.container_id == id);
    let of_container = of_container.context("the container has no metrics")?;
    ensure!(!of_container.metrics.is_empty(), "the container has no metrics");
    for metric in of_pod.metrics.iter().chain(&of_container.metrics) {
        let descriptor = described.iter().find(|one| one.name == metric.name);
        let descriptor = descriptor.with_context(|| format!("{} is not described", metric.name))?;
        let (labels, values) = (&descriptor.label_keys, &metric.label_values);
        ensure!(labels.len() == values.len(), "{}: {values:?} for {labels:?}", metric.name);
        ensure!(!descriptor.help.is_empty(), "{} has no help", metric.name);
    }
    Ok(())
}
