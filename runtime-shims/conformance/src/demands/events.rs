//! What is told as it happens, so that a kubelet need not ask.
//!
//! Must not know: containers' inside.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pintle_cri::v1;
use pintle_cri::v1::ContainerEventType as Event;

use super::demand;
use crate::bench::Bench;
use crate::demand::{Demand, equal, optional};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "runtime/container-events",
        "tells every container's creation, start, stop and deletion, in this order, as they happen",
        "runtime.v1 GetContainerEvents; KEP-3386",
        events
    ),
    demand!(
        "runtime/sandbox-events",
        "tells a sandbox's start and stop under the sandbox's ID",
        "runtime.v1 GetContainerEvents; kubelet's evented PLEG",
        sandbox_events
    ),
    demand!(
        "runtime/event-statuses",
        "every event holds the pod's status and its containers' as they were then",
        "runtime.v1 ContainerEventResponse.pod_sandbox_status, containers_statuses; kubelet's evented PLEG",
        statuses
    ),
    demand!(
        "runtime/event-listeners",
        "every listener hears every event, those that come later too",
        "runtime.v1 GetContainerEvents; a kubelet that starts again",
        listeners
    ),
];

/// Within which an event must come.
const WITHIN: Duration = Duration::from_secs(30);
/// A stream may say only after its beginning that it is none.
const SAYS_NO: Duration = Duration::from_millis(200);

type Events = BoxStream<'static, Result<v1::ContainerEventResponse, tonic::Status>>;

async fn follow(bench: &Bench) -> anyhow::Result<Events> {
    let answer = bench.cri().get_container_events(v1::GetEventsRequest {}).await;
    let mut stream = optional("GetContainerEvents", answer)?.boxed().peekable();
    let first = std::pin::Pin::new(&mut stream);
    if let Ok(Some(Err(status))) = tokio::time::timeout(SAYS_NO, first.peek()).await {
        return optional("GetContainerEvents", Err(status.clone()));
    }
    Ok(stream.boxed())
}

/// The events of a container or sandbox, up to one of this kind.
async fn told(events: &mut Events, id: &str, last: Event) -> anyhow::Result<Vec<v1::ContainerEventResponse>> {
    let mut found: Vec<v1::ContainerEventResponse> = Vec::new();
    let read = async {
        while found.last().map(v1::ContainerEventResponse::container_event_type) != Some(last) {
            let event = events.next().await.context("the stream ended")??;
            if event.container_id == id {
                found.push(event);
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let read = tokio::time::timeout(WITHIN, read).await;
    read.with_context(|| format!("{last:?} did not come; but {:?} did", kinds(&found)))??;
    Ok(found)
}

fn kinds(events: &[v1::ContainerEventResponse]) -> Vec<Event> {
    events.iter().map(v1::ContainerEventResponse::container_event_type).collect()
}

/// A container's whole life.
async fn life(bench: &Bench) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["exit", "3"])).await?;
    bench.exited(&id).await?;
    bench.remove(&id).await?;
    Ok(id)
}

const LIFE: [Event; 4] = [
    Event::ContainerCreatedEvent,
    Event::ContainerStartedEvent,
    Event::ContainerStoppedEvent,
    Event::ContainerDeletedEvent,
];

async fn events(bench: &Bench) -> anyhow::Result<()> {
    let mut stream = follow(bench).await?;
    let id = life(bench).await?;
    let found = told(&mut stream, &id, Event::ContainerDeletedEvent).await?;
    equal("the order of events", kinds(&found).as_slice(), LIFE.as_slice())?;
    ensure!(found.iter().all(|event| event.created_at > 0), "an event has no time");
    ensure!(found.is_sorted_by_key(|event| event.created_at), "the events' times do not rise");
    Ok(())
}

async fn sandbox_events(bench: &Bench) -> anyhow::Result<()> {
    let mut stream = follow(bench).await?;
    let pod = bench.pod().await?;
    told(&mut stream, &pod.id, Event::ContainerStartedEvent).await?;
    bench.stop_pod(&pod).await?;
    told(&mut stream, &pod.id, Event::ContainerStoppedEvent).await.map(drop)
}

async fn statuses(bench: &Bench) -> anyhow::Result<()> {
    let mut stream = follow(bench).await?;
    let pod = bench.pod().await?;
    let id = bench.run(&pod, bench.container(&pod, &["exit", "3"])).await?;
    let found = told(&mut stream, &id, Event::ContainerStoppedEvent).await?;
    let last = found.last().context("no event")?;
    let sandbox = last.pod_sandbox_status.as_ref().context("no pod_sandbox_status")?;
    equal("pod_sandbox_status.id", &sandbox.id, &pod.id)?;
    equal("pod_sandbox_status.metadata", &sandbox.metadata, &pod.config.metadata)?;
    let of_container =
        last.containers_statuses.iter().find(|one| one.id == id).context("no status of the container")?;
    equal("its state", of_container.state(), v1::ContainerState::ContainerExited)?;
    equal("its exit code", of_container.exit_code, 3)
}

async fn listeners(bench: &Bench) -> anyhow::Result<()> {
    let (mut first, mut second) = (follow(bench).await?, follow(bench).await?);
    let id = life(bench).await?;
    for stream in [&mut first, &mut second] {
        equal("a listener's events", kinds(&told(stream, &id, LIFE[3]).await?).as_slice(), LIFE.as_slice())?;
    }
    drop(first);
    let mut third = follow(bench).await?;
    let id = life(bench).await?;
    for stream in [&mut second, &mut third] {
        equal("a listener's events", kinds(&told(stream, &id, LIFE[3]).await?).as_slice(), LIFE.as_slice())?;
    }
    Ok(())
}
