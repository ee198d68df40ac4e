//! Issuing service-account tokens, and turning one back into a user as long as what it is bound to exists.
//!
//! Must not know: HTTP.

use std::sync::Arc;

use pintle_api::object;
use pintle_api::status::Status;
use pintle_pki::TokenKey;
use pintle_pki::tokens::{Bound, Claims, Reference};
use serde_json::Value;

use super::UserInfo;
use crate::cache::Caches;

/// A pod's token asks for this; it is made to last, with a warning after it (upstream's
/// `--service-account-extend-token-expiration`).
const WARN_ONLY_SECONDS: i64 = 60 * 60 + 7;
const EXTENDED_SECONDS: i64 = 24 * 365 * 60 * 60;
/// The least a token may be asked to last (`spec.expirationSeconds`).
pub const MIN_SECONDS: i64 = 600;

/// The signing key and whom its tokens are from and for.
pub struct Tokens {
    key: TokenKey,
    pub issuer: String,
    /// The audiences this API server accepts; also what a request without audiences gets.
    pub audiences: Vec<String>,
}

/// What a token is asked for.
pub struct Asked<'a> {
    pub namespace: &'a str,
    pub service_account: Reference,
    pub pod: Option<Reference>,
    pub secret: Option<Reference>,
    pub node: Option<Reference>,
    /// Empty: the API server's own.
    pub audiences: Vec<String>,
    pub seconds: i64,
    /// Seconds since the epoch.
    pub now: i64,
}

impl Tokens {
    pub fn new(key: TokenKey, issuer: String) -> Self {
        Self { key, audiences: vec![issuer.clone()], issuer }
    }

    pub fn jwks(&self) -> Value {
        self.key.jwks()
    }

    /// A token, and when it ends as its asker is told, in seconds since the epoch.
    pub fn issue(&self, asked: Asked<'_>) -> anyhow::Result<(String, i64)> {
        let told = asked.now + asked.seconds;
        let extend = asked.pod.is_some()
            && asked.seconds == WARN_ONLY_SECONDS
            && (asked.audiences.is_empty() || asked.audiences == self.audiences);
        let account = &asked.service_account.name;
        let claims = Claims {
            exp: if extend { asked.now + EXTENDED_SECONDS } else { told },
            iat: asked.now,
            nbf: asked.now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("{}{}:{account}", super::user::SERVICE_ACCOUNT_PREFIX, asked.namespace),
            aud: if asked.audiences.is_empty() { self.audiences.clone() } else { asked.audiences },
            kubernetes: Bound {
                namespace: asked.namespace.to_owned(),
                node: asked.node,
                pod: asked.pod,
                secret: asked.secret,
                serviceaccount: asked.service_account,
                warnafter: extend.then_some(told),
            },
        };
        Ok((self.key.sign(&claims)?, told))
    }

    /// The user of a token and the audiences of `wanted` it is for (all of ours, where none are wanted). Refused where
    /// its account, pod, secret or node is gone or is another one of the same name.
    pub fn authenticate(
        &self,
        caches: &Arc<Caches>,
        token: &str,
        wanted: &[String],
    ) -> Result<(UserInfo, Vec<String>), Status> {
        let accepted = if wanted.is_empty() { &self.audiences } else { wanted };
        let refused = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, "a bearer token was refused");
            Status::unauthorized()
        };
        let claims = self.key.verify(token, &self.issuer, accepted).map_err(|error| refused(&error))?;
        let bound = &claims.kubernetes;
        self.check_bound(caches, bound).map_err(|gone| refused(&gone))?;
        let audiences = accepted.iter().filter(|it| claims.aud.contains(it)).cloned().collect();
        Ok((user(&claims), audiences))
    }

    fn check_bound(&self, caches: &Arc<Caches>, bound: &Bound) -> Result<(), String> {
        let namespace = bound.namespace.as_str();
        let accounts = Some(&bound.serviceaccount);
        for (plural, namespace, reference) in [
            ("serviceaccounts", namespace, accounts),
            ("pods", namespace, bound.pod.as_ref()),
            ("secrets", namespace, bound.secret.as_ref()),
        ] {
            let Some(Reference { name, uid }) = reference else { continue };
            let found = caches.of("", plural).and_then(|cache| cache.get(namespace, name));
            let same = found.is_some_and(|stored| object::uid(&stored.value()) == uid);
            if !same {
                return Err(format!("the token is bound to {plural} {namespace}/{name} ({uid}), which is gone"));
            }
        }
        Ok(())
    }
}

fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let account = &bound.serviceaccount;
    let mut user = UserInfo::service_account(&bound.namespace, &account.name, &account.uid);
    let mut extra = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    extra("credential-id", format!("JTI={}", claims.jti));
    for (what, reference) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(Reference { name, uid }) = reference {
            extra(&format!("{what}-name"), name.clone());
            extra(&format!("{what}-uid"), uid.clone());
        }
    }
    user
}
