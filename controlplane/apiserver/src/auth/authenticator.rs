//! Client certificates, bearer tokens, and nobody: who a request comes from.
//!
//! Must not know: what they may do.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pintle_api::status::Status;
use rustls_pki_types::CertificateDer;

use super::UserInfo;
use super::tokens::Tokens;
use super::user::AUTHENTICATED;
use crate::cache::Caches;

/// Asks each way of proving an identity in turn. TLS has already checked that client certificates are the
/// cluster authority's.
pub struct Authenticator {
    pub tokens: Arc<Tokens>,
    pub caches: Arc<Caches>,
    /// Whether a request that proves nothing is `system:anonymous` rather than refused.
    pub anonymous: bool,
}

impl Authenticator {
    /// Who asks without a client certificate.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<UserInfo, Status> {
        match bearer(headers) {
            Some(token) => Ok(self.tokens.authenticate(&self.caches, token, &[])?.0),
            None if self.anonymous && !headers.contains_key(AUTHORIZATION) => Ok(UserInfo::anonymous()),
            None => Err(Status::unauthorized()),
        }
    }
}

/// The common name is the user, the organizations are the groups.
pub fn from_certificate(leaf: &CertificateDer<'_>) -> Result<UserInfo, Status> {
    let (name, mut groups) = pintle_pki::authority::subject(leaf).map_err(|error| {
        tracing::debug!(%error, "a client certificate was refused");
        Status::unauthorized()
    })?;
    if name.is_empty() {
        return Err(Status::unauthorized());
    }
    groups.push(AUTHENTICATED.to_owned());
    Ok(UserInfo { name, groups, ..UserInfo::default() })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}
