//! Events do not stay for ever: each is deleted once nothing happened to it for as long as the configuration says
//! (upstream gives every Event a lease in etcd; `--event-ttl`).
//!
//! Must not know: who writes Events.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, CommitError};

/// How often Events are looked at: time passing is no event that could be waited for.
const PERIOD: Duration = Duration::from_secs(60);

/// Deletes what is too old, until `cancel`.
pub async fn run(events: Arc<Cache>, ttl: Duration, cancel: CancellationToken) {
    while cancel.run_until_cancelled(tokio::time::sleep(PERIOD.min(ttl))).await.is_some() {
        for stored in events.list(None).items {
            if !is_over(&stored.value(), ttl, Timestamp::now()) {
                continue;
            }
            match events.delete(&stored.namespace, &stored.name, stored.revision).await {
                Ok(_) | Err(CommitError::Gone | CommitError::Conflict(_)) => {}
                Err(_) => {
                    tracing::warn!(event = %stored.name, "an Event that is over could not be deleted");
                    break;
                }
            }
        }
    }
}

/// Whether the last thing that happened to the Event is longer ago than `ttl`.
fn is_over(event: &Value, ttl: Duration, now: Timestamp) -> bool {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
    ];
    let last = times.into_iter().filter_map(|time| time.as_str()?.parse::<Timestamp>().ok()).max();
    let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    last.is_some_and(|last| now.as_second().saturating_sub(last.as_second()) > ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_that_still_happens_stays() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let hour = Duration::from_secs(3600);
        let old = json!({ "metadata": { "creationTimestamp": "2026-01-01T09:00:00Z" } });
        assert!(is_over(&old, hour, now));
        let again = json!({ "metadata": { "creationTimestamp": "2026-01-01T09:00:00Z" }, "lastTimestamp": "2026-01-01T11:30:00Z" });
        assert!(!is_over(&again, hour, now));
        assert!(!is_over(&json!({}), hour, now));
    }
}
