//! Container events from containerd's own event service, for a containerd whose CRI has none (before 1.7).
//!
//! containerd publishes before its CRI plugin has taken note, so each event waits (briefly, and within a bound) until the
//! CRI's status agrees: who hears "stopped" and asks must not be told "running".
//! Must not know: any other runtime.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::events::{ContainerCreate, ContainerDelete, TaskExit, TaskStart};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{GetContainerRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::order::Order;
use super::{ContainerEvent, Ended, Event, EventKind, subscribe};
use crate::Runtime;
use crate::containerd::NAMESPACE;
use crate::v1::{ContainerState, ContainerStatusRequest, ListContainersRequest, PodSandboxStatusRequest};

const TOPICS: [&str; 4] = ["/containers/create", "/tasks/start", "/tasks/exit", "/containers/delete"];
/// How long the CRI may lag behind an event before the event is passed on regardless.
const LONGEST_LAG: Duration = Duration::from_secs(5);

/// An event as containerd tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: EventKind,
    id: String,
    at: i64,
}

/// Whose a container of containerd's is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    /// It is a sandbox's own.
    Sandbox,
    ContainerOf(String),
    /// Not the CRI's, or gone before anyone asked.
    Unknown,
}

pub(super) async fn follow(runtime: &Runtime, events: &Sender<Event>) -> Ended {
    let Some(native) = runtime.native.clone() else { return Ended::Unsupported };
    let filters = TOPICS.map(|topic| format!("namespace==\"{NAMESPACE}\",topic==\"{topic}\"")).to_vec();
    let mut client = EventsClient::new(native.clone());
    let mut stream = match subscribe(client.subscribe(SubscribeRequest { filters }), events).await {
        Ok(stream) => stream,
        Err(ended) => return ended,
    };
    let mut owners = known_owners(runtime).await;
    let mut order = Order::new();
    let mut settling = FuturesUnordered::new();
    loop {
        tokio::select! {
            envelope = stream.message() => {
                let seen = match envelope {
                    Ok(Some(envelope)) => read(envelope),
                    Ok(None) => return Ended::Lost(Status::unavailable("containerd ended the event stream")),
                    Err(status) => return Ended::Lost(status),
                };
                let Some(seen) = seen else { continue };
                match order.arrive(&seen.id.clone(), seen) {
                    Ok(Some(now)) => settling.push(settle(runtime, &native, owners.get(&now.id).cloned(), now)),
                    Ok(None) => {}
                    Err(_full) => return Ended::Lost(Status::resource_exhausted("too many events wait")),
                }
            }
            Some((owner, seen)) = settling.next() => {
                remember(&mut owners, &seen, &owner);
                if let Some(next) = order.done(&seen.id) {
                    settling.push(settle(runtime, &native, Some(owner.clone()), next));
                }
                if let Some(event) = event_of(owner, seen)
                    && events.send(Event::Container(event)).await.is_err()
                {
                    return Ended::Unread;
                }
            }
        }
    }
}

fn remember(owners: &mut HashMap<String, Owner>, seen: &Seen, owner: &Owner) {
    match (seen.kind, owner) {
        (EventKind::Deleted, _) | (_, Owner::Unknown) => drop(owners.remove(&seen.id)),
        _ => drop(owners.insert(seen.id.clone(), owner.clone())),
    }
}

fn event_of(owner: Owner, seen: Seen) -> Option<ContainerEvent> {
    let pod_sandbox_id = match owner {
        Owner::Sandbox => Some(seen.id.clone()),
        Owner::ContainerOf(sandbox) => Some(sandbox),
        // Someone else's container in the CRI's namespace is no concern of ours, except that what is gone may have been.
        Owner::Unknown if seen.kind == EventKind::Deleted => None,
        Owner::Unknown => return None,
    };
    Some(ContainerEvent { kind: seen.kind, container_id: seen.id, pod_sandbox_id, created_at: seen.at })
}

/// The containers there are already: their deletion must still find its sandbox.
async fn known_owners(runtime: &Runtime) -> HashMap<String, Owner> {
    let listed = runtime.runtime.clone().list_containers(ListContainersRequest::default()).await;
    let containers = listed.map(|answer| answer.into_inner().containers).unwrap_or_default();
    containers.into_iter().map(|found| (found.id, Owner::ContainerOf(found.pod_sandbox_id))).collect()
}

/// Reads an envelope; `None` for what concerns no container's life (such as the end of an exec).
fn read(envelope: Envelope) -> Option<Seen> {
    let at =
        envelope.timestamp.map_or(0, |at| at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into()));
    let body = envelope.event?.value;
    let body = body.as_slice();
    let (kind, id) = match envelope.topic.as_str() {
        "/containers/create" => (EventKind::Created, ContainerCreate::decode(body).ok()?.id),
        "/containers/delete" => (EventKind::Deleted, ContainerDelete::decode(body).ok()?.id),
        "/tasks/start" => (EventKind::Started, TaskStart::decode(body).ok()?.container_id),
        "/tasks/exit" => {
            let exit = TaskExit::decode(body).ok()?;
            (EventKind::Stopped, Some(exit.container_id).filter(|container| exit.id == *container)?)
        }
        _ => return None,
    };
    (!id.is_empty()).then_some(Seen { kind, id, at })
}

/// Finds the owner, then waits until the CRI's status agrees with the event.
async fn settle(runtime: &Runtime, native: &Channel, known: Option<Owner>, seen: Seen) -> (Owner, Seen) {
    let owner = match known {
        Some(owner) => owner,
        None => look_up(native, &seen.id).await,
    };
    let agree = async {
        let mut pause = Duration::from_millis(5);
        while !agrees(runtime, &owner, &seen).await {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    };
    // Past the bound the event is passed on as it is: late is better than never.
    let _ = tokio::time::timeout(LONGEST_LAG, agree).await;
    (owner, seen)
}

async fn agrees(runtime: &Runtime, owner: &Owner, seen: &Seen) -> bool {
    match owner {
        Owner::Unknown => true,
        // A sandbox appears only once its network stands, which is for whoever asked for it to wait for.
        Owner::Sandbox => match seen.kind {
            EventKind::Created | EventKind::Started => true,
            EventKind::Stopped => !sandbox_ready(runtime, &seen.id).await,
            EventKind::Deleted => !sandbox_ready(runtime, &seen.id).await,
        },
        Owner::ContainerOf(_) => reached(seen.kind, container_state(runtime, &seen.id).await),
    }
}

/// Whether a container in this state (`None`: gone) has gone through what the event tells.
fn reached(kind: EventKind, state: Option<ContainerState>) -> bool {
    match (kind, state) {
        (EventKind::Deleted, state) => state.is_none(),
        (EventKind::Created, state) => state.is_some(),
        (EventKind::Started, state) => state != Some(ContainerState::ContainerCreated),
        (EventKind::Stopped, state) => state != Some(ContainerState::ContainerRunning),
    }
}

async fn container_state(runtime: &Runtime, id: &str) -> Option<ContainerState> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let answer = runtime.runtime.clone().container_status(request).await.ok()?.into_inner();
    answer.status.map(|status| status.state())
}

async fn sandbox_ready(runtime: &Runtime, id: &str) -> bool {
    use crate::v1::PodSandboxState::SandboxReady;
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
    let answer = runtime.runtime.clone().pod_sandbox_status(request).await;
    answer.is_ok_and(|answer| answer.into_inner().status.is_some_and(|status| status.state() == SandboxReady))
}

async fn look_up(native: &Channel, id: &str) -> Owner {
    let mut request = Request::new(GetContainerRequest { id: id.to_owned() });
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request.set_timeout(LONGEST_LAG);
    let found = match ContainersClient::new(native.clone()).get(request).await {
        Ok(answer) => answer.into_inner().container.unwrap_or_default(),
        Err(status) => {
            if status.code() != Code::NotFound {
                tracing::warn!(container = id, message = status.message(), "containerd did not tell whose it is");
            }
            return Owner::Unknown;
        }
    };
    match found.labels.get("io.cri-containerd.kind").map(String::as_str) {
        Some("sandbox") => Owner::Sandbox,
        Some("container") => {
            let metadata = found.extensions.get("io.cri-containerd.container.metadata");
            metadata.and_then(|any| sandbox_of(&any.value)).map_or(Owner::Unknown, Owner::ContainerOf)
        }
        _ => Owner::Unknown,
    }
}

/// The CRI plugin keeps its own record with each container: JSON, `{"Version":…,"Metadata":{"SandboxID":…}}`.
fn sandbox_of(metadata: &[u8]) -> Option<String> {
    let record: Value = serde_json::from_slice(metadata).ok()?;
    Some(record.get("Metadata")?.get("SandboxID")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, body: Vec<u8>) -> Envelope {
        let event = Some(prost_types::Any { type_url: String::new(), value: body });
        let timestamp = Some(prost_types::Timestamp { seconds: 2, nanos: 5 });
        Envelope { timestamp, namespace: NAMESPACE.into(), topic: topic.into(), event }
    }

    fn exit(container: &str, process: &str) -> Envelope {
        let body = TaskExit { container_id: container.into(), id: process.into(), ..Default::default() };
        envelope("/tasks/exit", body.encode_to_vec())
    }

    #[test]
    fn the_end_of_a_container_is_an_event_and_the_end_of_an_exec_is_not() {
        let seen = Seen { kind: EventKind::Stopped, id: "c".into(), at: 2_000_000_005 };
        assert_eq!(read(exit("c", "c")), Some(seen));
        assert_eq!(read(exit("c", "exec-1")), None);
    }

    #[test]
    fn broken_bodies_and_other_topics_are_no_events() {
        assert_eq!(read(envelope("/tasks/start", vec![0xff; 9])), None);
        assert_eq!(read(envelope("/images/create", vec![])), None);
        assert_eq!(read(envelope("/containers/create", vec![])), None);
    }

    #[test]
    fn the_sandbox_is_read_from_the_cri_plugins_record() {
        assert_eq!(sandbox_of(br#"{"Version":"v1","Metadata":{"ID":"c","SandboxID":"s"}}"#), Some("s".into()));
        assert_eq!(sandbox_of(b"{}"), None);
    }

    #[test]
    fn an_event_settles_when_the_status_shows_it_or_what_comes_after() {
        use ContainerState::*;
        assert!(!reached(EventKind::Created, None));
        assert!(!reached(EventKind::Started, Some(ContainerCreated)));
        assert!(reached(EventKind::Started, Some(ContainerExited)));
        assert!(!reached(EventKind::Stopped, Some(ContainerRunning)));
        assert!(reached(EventKind::Stopped, None));
        assert!(!reached(EventKind::Deleted, Some(ContainerExited)));
    }
}
