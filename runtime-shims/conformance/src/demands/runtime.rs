//! The runtime as a whole: version, status, configuration, events, statistics.
//!
//! Must not know: pods' and containers' inside.

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use pintle_cri::v1;
use pintle_cri::v1::ContainerEventType as Event;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, equal, optional};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "runtime/version",
        "names itself and its version, and speaks CRI v1",
        "runtime.v1 Version; kubelet's kubeRuntimeAPIVersion 0.1.0",
        version
    ),
    demand!(
        "runtime/conditions",
        "tells the conditions RuntimeReady and NetworkReady, the first of them true",
        "runtime.v1 Status.conditions; kubelet's node condition Ready",
        conditions
    ),
    demand!("runtime/configuration", "tells its cgroup driver", "runtime.v1 RuntimeConfig; KEP-4033", configuration),
    demand!(
        "runtime/container-events",
        "tells every container's creation, start, stop and deletion, in this order, as they happen",
        "runtime.v1 GetContainerEvents; KEP-3386",
        events
    ),
    demand!(
        "runtime/container-stats",
        "counts a running container's processor time and memory",
        "runtime.v1 ContainerStats; kubelet's CRI stats provider",
        stats
    ),
];

async fn version(bench: &Bench) -> anyhow::Result<()> {
    let version = &bench.shared.runtime.version;
    ensure!(!version.runtime_name.is_empty(), "runtime_name is empty");
    ensure!(!version.runtime_version.is_empty(), "runtime_version is empty");
    equal("runtime_api_version", version.runtime_api_version.as_str(), "v1")
}

async fn conditions(bench: &Bench) -> anyhow::Result<()> {
    let answer = bench.cri().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    let conditions = answer.status.context("an answer without a status")?.conditions;
    let find = |name: &str| conditions.iter().find(|one| one.r#type == name).with_context(|| format!("no {name}"));
    find("NetworkReady")?;
    equal("RuntimeReady", find("RuntimeReady")?.status, true)
}

async fn configuration(bench: &Bench) -> anyhow::Result<()> {
    let answer = optional("RuntimeConfig", bench.cri().runtime_config(v1::RuntimeConfigRequest {}).await)?;
    answer.linux.context("no configuration for Linux").map(drop)
}

async fn events(bench: &Bench) -> anyhow::Result<()> {
    let mut stream =
        optional("GetContainerEvents", bench.cri().get_container_events(v1::GetEventsRequest {}).await)?.boxed();
    // a stream may say only now that it is none
    let first = tokio::time::timeout(std::time::Duration::from_millis(200), stream.next()).await;
    if let Ok(Some(Err(status))) = first {
        return optional::<()>("GetContainerEvents", Err(status));
    }
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["exit", "3"])).await?;
    bench.exited(&id).await?;
    bench.remove(&id).await?;
    let mut told = Vec::new();
    while told.last() != Some(&Event::ContainerDeletedEvent) {
        let event = stream.next().await.context("the stream ended")??;
        if event.container_id == id {
            told.push(event.container_event_type());
        }
    }
    let demanded = [
        Event::ContainerCreatedEvent,
        Event::ContainerStartedEvent,
        Event::ContainerStoppedEvent,
        Event::ContainerDeletedEvent,
    ];
    equal("the order of events", told.as_slice(), demanded.as_slice())
}

async fn stats(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let counted = async || {
        let request = v1::ContainerStatsRequest { container_id: id.clone() };
        let stats = bench.cri().container_stats(request).await?.into_inner().stats.context("no stats")?;
        let attributes = stats.attributes.context("no attributes")?;
        equal("attributes.id", &attributes.id, &id)?;
        let value = |value: Option<v1::UInt64Value>| value.map_or(0, |value| value.value);
        let cpu = value(stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds));
        let memory = value(stats.memory.and_then(|memory| memory.working_set_bytes));
        Ok(cpu > 0 && memory > 0)
    };
    bench.until("processor time and memory are counted", counted).await
}
