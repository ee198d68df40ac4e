//! containerd's events: exits are recorded as they happen, and everything is passed on to those who follow CRI's events.
//!
//! Must not know: who follows.

use std::pin::pin;
use std::sync::Weak;
use std::time::Duration;

use containerd_client::events::{ContainerCreate, ContainerDelete, NamespaceUpdate, TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use pintle_cri::v1::{ContainerConfig, ContainerEventType, PodSandboxConfig};
use prost::Message;
use prost_types::Any;
use tonic::{Status, Streaming};

use crate::Inner;
use crate::client::{During, NAMESPACE, lasting, request};
use crate::record::now;

/// Ours, to hear that we are heard.
const KNOCK: &str = "/pintle/following";
const TOPICS: [&str; 6] =
    ["/containers/create", "/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/delete", KNOCK];
const AGAIN: Duration = Duration::from_secs(1);
/// How long a new subscription may take until it hears us.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
const KNOCK_AGAIN: Duration = Duration::from_millis(10);

/// What happened to whom.
#[derive(Debug, PartialEq)]
enum Happened {
    Life(ContainerEventType, String),
    OutOfMemory(String),
}

impl Inner {
    /// Whatever ended while nobody looked is recorded; what a killed run left half done is cleared; who belongs to whom
    /// is known again.
    pub(crate) async fn take_up(&self) -> Result<(), Status> {
        for sandbox in self.all::<PodSandboxConfig>().await? {
            self.told.belongs(&sandbox.id, &sandbox.id, self.sandbox_ready(&sandbox).await?);
        }
        for container in self.all::<ContainerConfig>().await? {
            let state = self.settle(&container.id).await?;
            let runs = state.started_at != 0 && state.finished_at == 0;
            self.told.belongs(&container.id, &container.state.sandbox, runs);
            crate::exec::clear(&self.config.container_state(&container.id));
        }
        Ok(())
    }

    /// Follows containerd's events. containerd answers a subscription with its first event and not before, and tells in no
    /// other way that it stands: so there is one, of ours.
    async fn follow(&self) -> Result<Streaming<Envelope>, Status> {
        let filters = TOPICS.map(|topic| format!("namespace=={NAMESPACE},topic=={topic:?}")).to_vec();
        let mut client = self.client.events();
        let mut answer = pin!(client.subscribe(lasting(SubscribeRequest { filters })));
        let heard = async {
            loop {
                tokio::select! {
                    answer = &mut answer => return Ok(answer?.into_inner()),
                    knocked = self.knock() => knocked?,
                }
            }
        };
        let late = |_| Status::deadline_exceeded(format!("containerd told no event within {HEARD_WITHIN:?}"));
        tokio::time::timeout(HEARD_WITHIN, heard).await.map_err(late)?
    }

    async fn knock(&self) -> Result<(), Status> {
        tokio::time::sleep(KNOCK_AGAIN).await;
        let event = NamespaceUpdate { name: NAMESPACE.to_owned(), ..NamespaceUpdate::default() };
        let event = Any { type_url: "containerd.events.NamespaceUpdate".to_owned(), value: event.encode_to_vec() };
        let publish = PublishRequest { topic: KNOCK.to_owned(), event: Some(event) };
        self.client.events().publish(request(publish)).await.during("telling containerd an event").map(drop)
    }

    async fn record(&self, happened: &Happened) -> Result<(), Status> {
        match happened {
            Happened::OutOfMemory(id) => self.record_out_of_memory(id).await,
            Happened::Life(ContainerEventType::ContainerStoppedEvent, id) => {
                let known = self.find::<ContainerConfig>(id).await?.is_some();
                if known { self.settle(id).await.map(drop) } else { Ok(()) }
            }
            Happened::Life(..) => Ok(()),
        }
    }

    /// What happened is in the records before anybody hears of it.
    async fn happened(&self, happened: Happened, at: i64) {
        if let Err(status) = self.record(&happened).await {
            tracing::warn!(message = status.message(), "an exit was not recorded; it is seen when it is asked for");
        }
        let Happened::Life(kind, id) = happened else { return };
        for (kind, sandbox) in self.told.lives(kind, &id) {
            self.tell(kind, &id, &sandbox, at).await;
        }
    }
}

/// Records what happens until the runtime is dropped, over reconnections.
pub async fn record_all(runtime: Weak<Inner>) {
    while let Some(inner) = runtime.upgrade() {
        let events = inner.follow().await;
        // Between two streams something may have ended.
        let taken = inner.take_up().await;
        let told = inner.told.clone();
        drop(inner);
        let outcome = match (events, taken) {
            (Ok(events), Ok(())) => {
                told.stand();
                each(&runtime, events).await
            }
            (Err(status), _) | (_, Err(status)) => Err(status),
        };
        told.fall("containerd's events were lost for a while: list, and follow again");
        if let Err(status) = outcome {
            tracing::debug!(message = status.message(), "containerd's events are followed again");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn each(runtime: &Weak<Inner>, mut events: Streaming<Envelope>) -> Result<(), Status> {
    while let Some(envelope) = events.message().await? {
        let Some(inner) = runtime.upgrade() else { return Ok(()) };
        if let Some(happened) = read(&envelope) {
            inner.happened(happened, time(&envelope)).await;
        }
    }
    Ok(())
}

/// Nanoseconds since 1970.
fn time(envelope: &Envelope) -> i64 {
    let told = envelope.timestamp.map(|at| at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into()));
    told.unwrap_or_else(now)
}

/// `None` for what concerns no container's life, such as the end of an exec.
fn read(envelope: &Envelope) -> Option<Happened> {
    let body = envelope.event.as_ref()?.value.as_slice();
    use ContainerEventType as Type;
    let (kind, id) = match envelope.topic.as_str() {
        "/containers/create" => (Type::ContainerCreatedEvent, ContainerCreate::decode(body).ok()?.id),
        "/containers/delete" => (Type::ContainerDeletedEvent, ContainerDelete::decode(body).ok()?.id),
        "/tasks/start" => (Type::ContainerStartedEvent, TaskStart::decode(body).ok()?.container_id),
        "/tasks/oom" => return Some(Happened::OutOfMemory(TaskOom::decode(body).ok()?.container_id)),
        "/tasks/exit" => {
            let exit = TaskExit::decode(body).ok()?;
            (Type::ContainerStoppedEvent, Some(exit.container_id).filter(|container| exit.id == *container)?)
        }
        _ => return None,
    };
    (!id.is_empty()).then_some(Happened::Life(kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, event: &impl Message) -> Envelope {
        let event = Some(Any { type_url: String::new(), value: event.encode_to_vec() });
        Envelope { topic: topic.into(), event, ..Envelope::default() }
    }

    #[test]
    fn the_end_of_an_exec_is_not_the_end_of_a_container() {
        let exit = |id: &str| TaskExit { container_id: "c".into(), id: id.into(), ..TaskExit::default() };
        let stopped = Happened::Life(ContainerEventType::ContainerStoppedEvent, "c".into());
        assert_eq!(read(&envelope("/tasks/exit", &exit("c"))), Some(stopped));
        assert_eq!(read(&envelope("/tasks/exit", &exit("exec-1"))), None);
        assert_eq!(read(&envelope("/images/create", &exit("c"))), None);
    }
}
