//! Container events, from whatever the runtime offers: the CRI's own stream, else containerd's event service on the same
//! socket (containerd before 1.7), else a regular call to look again.
//!
//! Must not know: what its reader does with an event; what pods are.

mod containerd;
mod order;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use pintle_daemon::backoff::Backoff;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};
use tracing::{debug, info};

use crate::Runtime;
use crate::v1::{ContainerEventResponse, ContainerEventType, GetEventsRequest};

/// Events that may wait for their reader; beyond it the runtime's stream waits.
const QUEUE: usize = 1024;
/// A Go server answers a subscription with its first event and not before: when it has not refused for this long, it is
/// taken to have subscribed.
const SUBSCRIBED_AFTER: Duration = Duration::from_millis(200);
/// Streams that end well within this, without an event, are of a runtime whose events are turned off: CRI-O, unless
/// `enable_pod_events` is set, answers so instead of with `Unimplemented`. One such stream may be of a runtime that stops.
const TURNED_OFF_WITHIN: Duration = Duration::from_secs(1);
/// How often a runtime without any events is looked at: the period of upstream's generic PLEG.
const RELIST_PERIOD: Duration = Duration::from_secs(1);

/// What happened, in upstream's four kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    Created,
    Started,
    Stopped,
    Deleted,
}

/// Something happened to a container, or to a sandbox (then both ids are the sandbox's).
/// By the time it is handed out, the runtime's status calls agree with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    pub kind: EventKind,
    pub container_id: String,
    /// `None` when the runtime no longer knew.
    pub pod_sandbox_id: Option<String>,
    /// Nanoseconds since 1970, the runtime's clock.
    pub created_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Container(ContainerEvent),
    /// Events may have been missed (the first connection, a lost one, a runtime without events): list again.
    Resync,
}

/// Why following a source ended.
pub(crate) enum Ended {
    /// The runtime has no such source.
    Unsupported,
    /// It ended well, at once and without an event.
    Empty,
    Lost(Status),
    /// Nobody reads any more.
    Unread,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Cri,
    Containerd,
    Relist,
}

impl Runtime {
    /// Follows the runtime's events until the stream is dropped, over reconnections; each gap is followed by a
    /// [`Event::Resync`], and so is the beginning.
    pub fn events(&self) -> ReceiverStream<Event> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(feed(self.clone(), sender));
        ReceiverStream::new(receiver)
    }
}

async fn feed(runtime: Runtime, events: Sender<Event>) {
    let mut source = Source::Cri;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut empty_before = false;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            _ = events.closed() => return,
            ended = follow(source, &runtime, &events) => ended,
        };
        let empty = matches!(ended, Ended::Empty);
        match ended {
            Ended::Unread => return,
            Ended::Unsupported => source = next_source(source, &runtime),
            Ended::Empty if empty_before => source = next_source(source, &runtime),
            Ended::Empty => tokio::time::sleep(backoff.next_delay()).await,
            Ended::Lost(status) => {
                debug!(?source, code = ?status.code(), message = status.message(), "the event stream ended");
                if began.elapsed() > Duration::from_secs(30) {
                    backoff.reset();
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
        empty_before = empty;
    }
}

fn next_source(refused: Source, runtime: &Runtime) -> Source {
    let next = match refused {
        Source::Cri if runtime.native.is_some() => Source::Containerd,
        _ => Source::Relist,
    };
    info!(runtime = runtime.version.runtime_name, ?refused, ?next, "the runtime lacks this source of events");
    next
}

async fn follow(source: Source, runtime: &Runtime, events: &Sender<Event>) -> Ended {
    match source {
        Source::Cri => follow_cri(runtime, events).await,
        Source::Containerd => containerd::follow(runtime, events).await,
        Source::Relist => relist(events).await,
    }
}

async fn follow_cri(runtime: &Runtime, events: &Sender<Event>) -> Ended {
    let mut client = runtime.runtime.clone();
    let began = Instant::now();
    let mut stream = match subscribe(client.get_container_events(GetEventsRequest {}), events).await {
        Ok(stream) => stream,
        Err(ended) => return ended,
    };
    let mut any = false;
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => Event::Container(from_cri(event)),
            Ok(None) => return ended_well(any, began.elapsed()),
            Err(status) => return Ended::Lost(status),
        };
        any = true;
        if events.send(event).await.is_err() {
            return Ended::Unread;
        }
    }
}

/// What it means that a stream ended without an error, `after` its beginning.
fn ended_well(any: bool, after: Duration) -> Ended {
    match any || after >= TURNED_OFF_WITHIN {
        true => Ended::Lost(Status::unavailable("the runtime ended the event stream")),
        false => Ended::Empty,
    }
}

fn from_cri(event: ContainerEventResponse) -> ContainerEvent {
    let kind = match event.container_event_type() {
        ContainerEventType::ContainerCreatedEvent => EventKind::Created,
        ContainerEventType::ContainerStartedEvent => EventKind::Started,
        ContainerEventType::ContainerStoppedEvent => EventKind::Stopped,
        ContainerEventType::ContainerDeletedEvent => EventKind::Deleted,
    };
    let sandbox = event.pod_sandbox_status.map(|status| status.id).filter(|id| !id.is_empty());
    ContainerEvent { kind, container_id: event.container_id, pod_sandbox_id: sandbox, created_at: event.created_at }
}

/// Waits for a subscription, and tells the reader to list once it (most likely) stands.
pub(crate) async fn subscribe<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    events: &Sender<Event>,
) -> Result<Streaming<T>, Ended> {
    let mut call = pin!(call);
    let early = tokio::time::timeout(SUBSCRIBED_AFTER, &mut call).await;
    if let Ok(Err(status)) = early {
        return Err(refusal(status));
    }
    if events.send(Event::Resync).await.is_err() {
        return Err(Ended::Unread);
    }
    let answer = match early {
        Ok(answer) => answer,
        Err(_elapsed) => call.await,
    };
    Ok(answer.map_err(refusal)?.into_inner())
}

fn refusal(status: Status) -> Ended {
    match status.code() {
        Code::Unimplemented => Ended::Unsupported,
        _ => Ended::Lost(status),
    }
}

async fn relist(events: &Sender<Event>) -> Ended {
    while events.send(Event::Resync).await.is_ok() {
        tokio::time::sleep(RELIST_PERIOD).await;
    }
    Ended::Unread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_ends_at_once_and_empty_is_told_from_one_that_is_lost() {
        let empty = |any, after| matches!(ended_well(any, after), Ended::Empty);
        assert!(empty(false, Duration::from_millis(3)));
        assert!(!empty(true, Duration::from_millis(3)), "it told something");
        assert!(!empty(false, Duration::from_secs(60)), "it was quiet and is being stopped");
    }
}
