//! Deletes requests that nobody will look at any more (`pkg/controller/certificates/cleaner`).
//!
//! Must not know: who approves or signs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client};
use pintle_client::ObjectKey;

use super::{NAME, feed, find, is_signed};
use crate::api;
use crate::context::Context;
use crate::work::Outcome;

const APPROVED: SignedDuration = SignedDuration::from_hours(1);
const REFUSED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

struct Controller {
    context: Context,
    client: Client,
}

pub async fn run(context: Context) {
    context.caches.certificate_requests.synced().await;
    let queue = context.queue("csrcleaner");
    feed(&context, &queue);
    let client = context.client(NAME);
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client });
    queue.run(1, cancel, |key| controller.clone().sync(key)).await;
}

/// When the request is to go: some time after it was answered, or after it was made where nobody answers.
fn due(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let updated =
        |type_: &str| find(request, type_).and_then(|found| found.last_update_time.as_ref()).map(|time| time.0);
    if let Some(since) = updated("Denied").or_else(|| updated("Failed")) {
        return Some(since + REFUSED);
    }
    if let Some(since) = updated("Approved").filter(|_| is_signed(request)) {
        return Some(since + APPROVED);
    }
    request.metadata.creation_timestamp.as_ref().map(|made| made.0 + PENDING)
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let request = self.context.caches.certificate_requests.get("", &key.name);
        let Some((request, due)) = request.and_then(|request| Some((request.clone(), due(&request)?))) else {
            return Ok(None);
        };
        let left = due.duration_since(Timestamp::now());
        if left.is_positive() {
            return Ok(Duration::try_from(left).ok());
        }
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let deleted = requests.delete(&key.name, &api::delete_uid(request.metadata.uid.as_ref())).await;
        api::ignore_not_found(deleted).context("deleting a certificate request that is over")?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_answered_goes_sooner_than_what_nobody_answers() {
        let request = |conditions: serde_json::Value| -> CertificateSigningRequest {
            serde_json::from_value(json!({ "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" },
                "spec": { "request": "", "signerName": "s" }, "status": { "conditions": conditions, "certificate": "YQ==" } }))
            .unwrap()
        };
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let approved = json!([{ "type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z" }]);
        assert_eq!(due(&request(approved)), at("2026-01-01T03:00:00Z"));
        assert_eq!(due(&request(json!([]))), at("2026-01-02T00:00:00Z"));
    }
}
