//! May this request be answered: client certificate or token, then SubjectAccessReview, as upstream's kubelet asks.
//!
//! Must not know: what the answer is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_client::error::chain;
use sha2::{Digest as _, Sha256};

use super::answer::{Answer, text};
use super::identity::User;
use crate::config::{Authorization, Config};

/// How long answers are remembered: upstream's cacheTTL, cacheAuthorizedTTL, cacheUnauthorizedTTL.
const TOKENS: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Answers remembered at most.
const REMEMBERED: usize = 4096;

/// Answers by question, each for a while.
struct Memory<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Memory<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V, life: Duration) {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED {
            let now = Instant::now();
            all.retain(|_, (until, _)| now < *until);
        }
        if all.len() < REMEMBERED {
            all.insert(key, (Instant::now() + life, value));
        }
    }
}

/// User, verb, subresource.
type Question = (User, &'static str, String);

pub struct Access {
    client: Client,
    config: Arc<Config>,
    /// By the token's digest: the token itself is kept nowhere.
    tokens: Memory<[u8; 32], Option<User>>,
    decisions: Memory<Question, bool>,
}

impl Access {
    pub fn new(client: Client, config: Arc<Config>) -> Self {
        Self { client, config, tokens: Memory::new(), decisions: Memory::new() }
    }

    /// The user, or nobody.
    pub async fn authenticate(&self, headers: &HeaderMap, certificate: Option<User>) -> Option<User> {
        if certificate.is_some() {
            return certificate;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match bearer {
            Some(token) if self.config.webhook_authentication => self.review(token.trim()).await,
            Some(_) => None,
            None => self.config.anonymous_auth.then(User::anonymous),
        }
    }

    async fn review(&self, token: &str) -> Option<User> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.tokens.get(&key) {
            return known;
        }
        let spec = TokenReviewSpec { token: token.into(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = match api.create(&PostParams::default(), &review).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!("reviewing a token: {}", chain(&error));
                return None;
            }
        };
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        self.tokens.put(key, user.clone(), TOKENS);
        user
    }

    /// Passes, or the answer to give.
    ///
    /// # Errors
    /// 403 with upstream's text, or 500 when the API cannot be asked.
    pub async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<(), Answer> {
        if self.config.authorization == Authorization::AlwaysAllow {
            return Ok(());
        }
        let verb = verb(method);
        let subresources = subresources(path);
        for subresource in &subresources {
            match self.may(user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let message = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource}): {error}",
                        user.name
                    );
                    tracing::warn!("{message}");
                    return Err(text(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let message = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            user.name,
            subresources.join(" ")
        );
        Err(text(StatusCode::FORBIDDEN, message))
    }

    async fn may(&self, user: &User, verb: &'static str, subresource: &str) -> kube::Result<bool> {
        let key = (user.clone(), verb, subresource.to_string());
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.into()),
            name: Some(self.config.node_name.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer =
            api.create(&PostParams::default(), &SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.decisions.put(key, allowed, if allowed { ALLOWED } else { DENIED });
        Ok(allowed)
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of `nodes` that a path stands for; any of them suffices. Source: upstream's
/// GetRequestAttributes.
fn subresources(path: &str) -> Vec<&'static str> {
    let below = |prefix: &str| path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    let fine = [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")];
    let own = [("/stats", "stats"), ("/metrics", "metrics"), ("/logs", "log"), ("/checkpoint", "checkpoint")];
    let fine = fine.iter().find(|(prefix, _)| below(prefix)).map(|(_, name)| *name);
    let rest = own.iter().find(|(prefix, _)| below(prefix)).map_or("proxy", |(_, name)| *name);
    fine.into_iter().chain([rest]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        let cases = [
            ("/pods", "pods,proxy"),
            ("/exec/a/b/c", "proxy"),
            ("/metrics/cadvisor", "metrics"),
            ("/logs/x", "log"),
            ("/podsx", "proxy"),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path).join(","), expected, "{path}");
        }
    }
}
