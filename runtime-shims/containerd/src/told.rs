//! CRI's container events: told to every reader, each with its own bounded queue.
//!
//! Must not know: where events come from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pintle_cri::v1::ContainerEventType as Kind;
use pintle_cri::v1::{ContainerEventResponse, PodSandboxConfig};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::Inner;

/// A reader further behind than this is told so and begins again.
const QUEUE: usize = 1024;
/// How long a reader waits for the source of events.
const STANDS_WITHIN: Duration = Duration::from_secs(30);

/// Whose a container is, and whether it was told to run.
#[derive(Debug)]
struct Owned {
    /// A sandbox is its own.
    sandbox: String,
    runs: bool,
}

/// Everybody who follows events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Told {
    events: broadcast::Sender<Result<ContainerEventResponse, Status>>,
    /// Whether everything that happens is heard.
    standing: watch::Sender<bool>,
    owned: Arc<Mutex<HashMap<String, Owned>>>,
}

impl Default for Told {
    fn default() -> Self {
        Self { events: broadcast::channel(QUEUE).0, standing: watch::channel(false).0, owned: Arc::default() }
    }
}

impl Told {
    fn owned(&self) -> MutexGuard<'_, HashMap<String, Owned>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container or sandbox of ours is there, or about to be: events of others are not passed on.
    pub fn belongs(&self, id: &str, sandbox: &str, runs: bool) {
        self.owned().insert(id.to_owned(), Owned { sandbox: sandbox.to_owned(), runs });
    }

    /// It never was in containerd, which will tell no end of it.
    pub fn forget(&self, id: &str) {
        self.owned().remove(id);
    }

    /// What readers hear of an event, and whose it is. The shim's word of an end may come after containerd's word of the
    /// removal: a reader hears of both, in their order, and once.
    pub fn lives(&self, kind: Kind, id: &str) -> Vec<(Kind, String)> {
        let mut owned = self.owned();
        let Some(known) = owned.get_mut(id) else { return Vec::new() };
        let sandbox = known.sandbox.clone();
        let ran = std::mem::replace(&mut known.runs, kind == Kind::ContainerStartedEvent);
        if kind != Kind::ContainerDeletedEvent {
            return vec![(kind, sandbox)];
        }
        owned.remove(id);
        let end = ran.then(|| (Kind::ContainerStoppedEvent, sandbox.clone()));
        end.into_iter().chain([(kind, sandbox)]).collect()
    }

    /// From now on everything is heard.
    pub fn stand(&self) {
        self.standing.send_replace(true);
    }

    /// Something may happen unheard: readers are told to begin again.
    pub fn fall(&self, reason: &str) {
        if self.standing.send_replace(false) {
            // nobody may be reading
            let _ = self.events.send(Err(Status::unavailable(reason)));
        }
    }

    /// Events from now on. A reader that falls behind gets an error, and the stream ends.
    ///
    /// # Errors
    /// `Unavailable`: the source does not stand in time.
    pub async fn follow(
        &self,
    ) -> Result<impl Stream<Item = Result<ContainerEventResponse, Status>> + Send + use<>, Status> {
        let mut standing = self.standing.subscribe();
        let stands = tokio::time::timeout(STANDS_WITHIN, standing.wait_for(|stands| *stands)).await;
        let Ok(Ok(stands)) = stands else {
            return Err(Status::unavailable("containerd's events cannot be followed now"));
        };
        let receiver = self.events.subscribe();
        // held until here: a fall after it is heard
        drop(stands);
        let mut ended = false;
        let all = BroadcastStream::new(receiver).map(|event| match event {
            Ok(event) => event,
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                let reason = format!("{missed} events were not read in time: list, and follow again");
                Err(Status::resource_exhausted(reason))
            }
        });
        Ok(all.take_while(move |event| !std::mem::replace(&mut ended, event.is_err())))
    }
}

impl Inner {
    /// Tells that something happened to a container or sandbox, with the pod as it is now.
    pub async fn tell(&self, kind: Kind, id: &str, sandbox: &str, at: i64) {
        if self.told.events.receiver_count() == 0 {
            return;
        }
        let mut event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: at,
            ..ContainerEventResponse::default()
        };
        if let Err(status) = self.add_statuses(&mut event, sandbox).await {
            tracing::debug!(sandbox, message = status.message(), "an event is told without the pod's status");
        }
        // nobody may be reading any more
        let _ = self.told.events.send(Ok(event));
    }

    async fn add_statuses(&self, event: &mut ContainerEventResponse, sandbox: &str) -> Result<(), Status> {
        let Some(sandbox) = self.find::<PodSandboxConfig>(sandbox).await? else { return Ok(()) };
        event.pod_sandbox_status = Some(self.sandbox_status(&sandbox).await?);
        for container in self.containers_of(&sandbox.id).await? {
            event.containers_statuses.push(self.container_status(&container).await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_told_after_the_removal_is_heard_before_it_and_once() {
        let told = Told::default();
        told.belongs("c", "s", false);
        let heard = |kind| told.lives(kind, "c").into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(heard(Kind::ContainerCreatedEvent), [Kind::ContainerCreatedEvent]);
        assert_eq!(heard(Kind::ContainerStartedEvent), [Kind::ContainerStartedEvent]);
        assert_eq!(heard(Kind::ContainerDeletedEvent), [Kind::ContainerStoppedEvent, Kind::ContainerDeletedEvent]);
        assert_eq!(heard(Kind::ContainerStoppedEvent), []);
    }

    #[test]
    fn what_belongs_to_others_is_not_told() {
        assert_eq!(Told::default().lives(Kind::ContainerStartedEvent, "c"), []);
    }

    #[tokio::test]
    async fn a_reader_hears_of_a_gap_and_is_let_go() {
        let told = Told::default();
        told.stand();
        let mut reader = Box::pin(told.follow().await.unwrap());
        told.events.send(Ok(ContainerEventResponse::default())).unwrap();
        told.fall("a gap");
        told.events.send(Ok(ContainerEventResponse::default())).unwrap();
        assert!(reader.next().await.unwrap().is_ok());
        assert_eq!(reader.next().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
        assert!(reader.next().await.is_none());
    }
}
