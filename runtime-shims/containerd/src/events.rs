//! containerd's events: exits are recorded as they happen, and CRI's event stream is made of them.
//!
//! Must not know: who follows.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use containerd_client::events::{ContainerCreate, ContainerDelete, TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::types::Envelope;
use pintle_cri::v1::{ContainerConfig, ContainerEventResponse, ContainerEventType, PodSandboxConfig};
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::Inner;
use crate::client::{During, NAMESPACE, lasting};
use crate::record::{SandboxRecord, now};

const TOPICS: [&str; 5] = ["/containers/create", "/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/delete"];
const AGAIN: Duration = Duration::from_secs(1);
const QUEUE: usize = 256;

/// What happened to whom.
#[derive(Debug, PartialEq)]
enum Happened {
    Life(ContainerEventType, String),
    OutOfMemory(String),
}

impl Inner {
    /// Whatever ended while nobody looked is recorded; what a killed run left half done is cleared.
    pub(crate) async fn take_up(&self) -> Result<(), Status> {
        for container in self.all::<ContainerConfig>().await? {
            self.settle(&container.id).await?;
            crate::exec::clear(&self.config.container_state(&container.id));
        }
        Ok(())
    }

    async fn follow(&self) -> Result<Streaming<Envelope>, Status> {
        let filters = TOPICS.map(|topic| format!("namespace=={NAMESPACE},topic=={topic:?}")).to_vec();
        Ok(self.client.events().subscribe(lasting(SubscribeRequest { filters })).await?.into_inner())
    }

    async fn record(&self, happened: Happened) -> Result<(), Status> {
        match happened {
            Happened::OutOfMemory(id) => self.record_out_of_memory(&id).await,
            Happened::Life(ContainerEventType::ContainerStoppedEvent, id) => {
                let known = self.find::<ContainerConfig>(&id).await?.is_some();
                if known { self.settle(&id).await.map(drop) } else { Ok(()) }
            }
            Happened::Life(..) => Ok(()),
        }
    }

    /// CRI's own event stream. It ends when containerd's does; a reader comes again and lists.
    pub(crate) async fn cri_events(
        self: Arc<Self>,
    ) -> Result<mpsc::Receiver<Result<ContainerEventResponse, Status>>, Status> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut owners = HashMap::new();
        for container in self.all::<ContainerConfig>().await? {
            owners.insert(container.id, container.state.sandbox);
        }
        tokio::spawn(async move {
            let ended = tokio::select! {
                _ = sender.closed() => return,
                ended = self.pass_on(&sender, owners) => ended,
            };
            if let Err(status) = ended {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(receiver)
    }

    async fn pass_on(
        &self,
        sender: &mpsc::Sender<Result<ContainerEventResponse, Status>>,
        mut owners: HashMap<String, String>,
    ) -> Result<(), Status> {
        let mut events = self.follow().await.during("following containerd's events")?;
        while let Some(envelope) = events.message().await? {
            let Some(Happened::Life(kind, id)) = read(&envelope) else { continue };
            let Some(event) = self.event(kind, id, &mut owners).await? else { continue };
            if sender.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        Err(Status::unavailable("containerd ended the event stream"))
    }

    /// `None` for a container that is not ours.
    async fn event(
        &self,
        kind: ContainerEventType,
        id: String,
        owners: &mut HashMap<String, String>,
    ) -> Result<Option<ContainerEventResponse>, Status> {
        let known = owners.get(&id).cloned();
        let sandbox_id = match self.find::<ContainerConfig>(&id).await? {
            Some(container) => Some(container.state.sandbox),
            None => known.or(self.find::<PodSandboxConfig>(&id).await?.map(|sandbox| sandbox.id)),
        };
        let Some(sandbox_id) = sandbox_id else { return Ok(None) };
        match kind {
            ContainerEventType::ContainerDeletedEvent => drop(owners.remove(&id)),
            _ => drop(owners.insert(id.clone(), sandbox_id.clone())),
        }
        let mut event = ContainerEventResponse { container_id: id, created_at: now(), ..Default::default() };
        event.set_container_event_type(kind);
        if let Some(sandbox) = self.find::<PodSandboxConfig>(&sandbox_id).await? {
            event.containers_statuses = self.container_statuses(&sandbox).await?;
            event.pod_sandbox_status = Some(self.sandbox_status(&sandbox).await?);
        }
        Ok(Some(event))
    }

    async fn container_statuses(
        &self,
        sandbox: &SandboxRecord,
    ) -> Result<Vec<pintle_cri::v1::ContainerStatus>, Status> {
        let mut statuses = Vec::new();
        for container in self.containers_of(&sandbox.id).await? {
            statuses.push(self.container_status(&container).await?);
        }
        Ok(statuses)
    }
}

/// Records exits until the runtime is dropped, over reconnections.
pub async fn record_exits(runtime: Weak<Inner>) {
    while let Some(inner) = runtime.upgrade() {
        let events = inner.follow().await;
        // Between two streams something may have ended.
        let taken = inner.take_up().await;
        drop(inner);
        let outcome = match (events, taken) {
            (Ok(events), Ok(())) => each(&runtime, events).await,
            (Err(status), _) | (_, Err(status)) => Err(status),
        };
        if let Err(status) = outcome {
            tracing::debug!(message = status.message(), "containerd's events are followed again");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn each(runtime: &Weak<Inner>, mut events: Streaming<Envelope>) -> Result<(), Status> {
    while let Some(envelope) = events.message().await? {
        let Some(inner) = runtime.upgrade() else { return Ok(()) };
        let Some(happened) = read(&envelope) else { continue };
        if let Err(status) = inner.record(happened).await {
            tracing::warn!(message = status.message(), "an exit was not recorded; it is seen when it is asked for");
        }
    }
    Ok(())
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
    use prost_types::Any;

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
