//! Service account tokens bound to pods, made by TokenRequest and renewed before they end.
//!
//! Must not know: which file shows a token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::plan::pod;

/// Upstream renews at 80 % of a token's life, and at the latest after a day.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_SECONDS: i64 = 3600;

#[derive(Clone)]
struct Token {
    text: String,
    renew_at: Timestamp,
}

/// Pod, audience, life in seconds.
type Key = (String, String, i64);

/// Tokens of the node's pods. Clones share them.
#[derive(Clone)]
pub struct Tokens {
    client: Client,
    known: Arc<Mutex<HashMap<Key, Token>>>,
}

impl Tokens {
    pub fn new(client: Client) -> Self {
        Self { client, known: Arc::default() }
    }

    /// A token that is good for a while, and after how long to ask again.
    ///
    /// # Errors
    /// The API refuses: a text for the pod's events.
    pub async fn get(&self, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<(String, Duration), String> {
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let audience = source.audience.clone().unwrap_or_default();
        let key = (pod::uid(pod).to_string(), audience.clone(), seconds);
        let known = self.known.lock().get(&key).cloned();
        let now = Timestamp::now();
        let token = match known.filter(|token| now < token.renew_at) {
            Some(token) => token,
            None => self.request(pod, audience, seconds).await?,
        };
        let left = Duration::try_from(token.renew_at.duration_since(now)).unwrap_or(Duration::ZERO);
        let text = token.text.clone();
        self.known.lock().insert(key, token);
        Ok((text, left + Duration::from_secs(1)))
    }

    async fn request(&self, pod: &Pod, audience: String, seconds: i64) -> Result<Token, String> {
        let account =
            pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".into());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience]),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod::namespace(pod));
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(|error| format!("failed to fetch token: {error}"))?;
        let status = answer.status.ok_or("failed to fetch token: the answer has no status")?;
        let now = Timestamp::now();
        let end = status.expiration_timestamp.ok_or("failed to fetch token: the answer has no end")?;
        let life = Duration::try_from(end.0.duration_since(now)).unwrap_or(Duration::ZERO);
        let renew_at = now.checked_add((life * 4 / 5).min(OLDEST)).map_err(|error| error.to_string())?;
        Ok(Token { text: status.token.unwrap_or_default(), renew_at })
    }

    pub fn forget(&self, uid: &str) {
        self.known.lock().retain(|(of, ..), _| of != uid);
    }
}
