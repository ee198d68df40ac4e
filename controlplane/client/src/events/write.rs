//! Writes correlated events, one after the other; tries again while the server cannot be reached.
//!
//! Must not know: how events are correlated.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use pintle_daemon::backoff::Backoff;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Occurrence;
use super::correlate::{Correlated, Correlator};

/// Upstream gives up on an event after as many tries.
const TRIES: usize = 12;

pub(super) async fn run(
    client: Client,
    mut correlator: Correlator,
    mut occurrences: mpsc::Receiver<Occurrence>,
    cancel: CancellationToken,
) {
    while let Some(Some(occurrence)) = cancel.run_until_cancelled(occurrences.recv()).await {
        if let Some(correlated) = correlator.correlate(occurrence) {
            cancel.run_until_cancelled(write(&client, correlated)).await;
        }
    }
}

async fn write(client: &Client, correlated: Correlated) {
    let namespace = correlated.event.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    for _ in 0..TRIES {
        match once(&api, &correlated).await {
            Ok(()) => return,
            Err(Error::Api(status)) => {
                // the server answered: saying the same again would get the same answer
                tracing::debug!(%status, "event refused");
                return;
            }
            Err(error) => tracing::debug!(%error, "event not written yet"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
    tracing::warn!(reason = correlated.event.reason, "event given up");
}

async fn once(api: &Api<Event>, correlated: &Correlated) -> Result<(), Error> {
    let event = &correlated.event;
    if correlated.exists {
        let patch = json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
        let name = event.metadata.name.as_deref().unwrap_or_default();
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // expired in the meantime: it starts over with the count it had
            Err(Error::Api(status)) if status.code == 404 => {}
            result => return result.map(drop),
        }
    }
    api.create(&PostParams::default(), event).await.map(drop)
}
