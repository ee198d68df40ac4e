//! Container events: told to every reader, each with its own bounded queue.
//!
//! Must not know: what happens on an event.

use pintle_cri::v1;
use pintle_cri::v1::ContainerEventType as Kind;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::clock;
use crate::plan::show;
use crate::state::{Container, Sandbox, Table};

/// A reader further behind than this is told so and begins again.
const QUEUE: usize = 1024;

/// Everybody who follows events.
#[derive(Debug)]
pub struct Events(broadcast::Sender<v1::ContainerEventResponse>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(QUEUE).0)
    }
}

impl Events {
    /// Tells that something happened to a container, with the pod as it is now.
    pub fn of_container(&self, kind: Kind, id: &str, sandbox: Option<&Sandbox>, containers: &Table<Container>) {
        let Some(sandbox) = sandbox.filter(|_| self.0.receiver_count() > 0) else { return };
        let of_pod = containers.all().into_iter().map(|entry| entry.now()).filter(|one| one.sandbox_id == sandbox.id);
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: clock::now(),
            pod_sandbox_status: Some(show::sandbox_status(sandbox)),
            containers_statuses: of_pod.map(|one| show::container_status(&one)).collect(),
        };
        // nobody may be reading
        let _ = self.0.send(event);
    }

    /// A sandbox's own events carry its ID as the container's, as upstream's runtimes send them.
    pub fn of_sandbox(&self, kind: Kind, sandbox: &Sandbox, containers: &Table<Container>) {
        self.of_container(kind, &sandbox.id, Some(sandbox), containers);
    }

    /// Events from now on. A reader that falls behind gets an error, and the stream ends.
    pub fn follow(&self) -> impl Stream<Item = Result<v1::ContainerEventResponse, Status>> + use<> {
        let mut behind = false;
        let all = BroadcastStream::new(self.0.subscribe()).map(|event| {
            event.map_err(|BroadcastStreamRecvError::Lagged(missed)| {
                Status::resource_exhausted(format!("{missed} events were not read in time: list, and follow again"))
            })
        });
        all.take_while(move |event| !std::mem::replace(&mut behind, event.is_err()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (tempfile::TempDir, Table<Container>) {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::open(dir.path().into()).unwrap().0;
        (dir, table)
    }

    #[tokio::test]
    async fn every_reader_gets_every_event_with_the_pod() {
        let (_dir, containers) = table();
        let events = Events::default();
        let mut readers = [Box::pin(events.follow()), Box::pin(events.follow())];
        events.of_sandbox(Kind::ContainerCreatedEvent, &Sandbox { id: "s".into(), ..Default::default() }, &containers);
        for reader in &mut readers {
            let event = reader.next().await.unwrap().unwrap();
            assert_eq!((event.container_id.as_str(), event.pod_sandbox_status.unwrap().id.as_str()), ("s", "s"));
        }
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_told_and_let_go() {
        let (_dir, containers) = table();
        let events = Events::default();
        let mut reader = Box::pin(events.follow());
        for _ in 0..=QUEUE {
            events.of_sandbox(Kind::ContainerCreatedEvent, &Sandbox::default(), &containers);
        }
        let status = reader.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(reader.next().await.is_none());
    }
}
