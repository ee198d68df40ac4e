//! What this server asks the others on its own behalf: a document, within a time.
//!
//! Must not know: what is in it.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};

use super::{Remote, proxy};
use crate::auth::UserInfo;
use crate::auth::user::MASTERS;
use crate::body::request_body;
use crate::relay::connect;
use crate::relay::target::Target;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 32 * 1024 * 1024;

/// As errors name it.
pub fn url(target: &Target) -> String {
    format!("https://{}{}", target.authority(), target.path)
}

/// Asks `target` for a document of a form that `accept` names; `known` is the tag of one that is here already, or empty.
/// Errors are worded as Go's clients word them.
pub async fn get(remote: &Remote, target: &Target, accept: &str, known: &str) -> anyhow::Result<Response<Bytes>> {
    let answer = tokio::time::timeout(LIMIT, exchange(remote, target, accept, known)).await;
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    answer.unwrap_or_else(|_| Err(anyhow::anyhow!(late))).with_context(|| format!("Get {:?}", url(target)))
}

async fn exchange(remote: &Remote, target: &Target, accept: &str, known: &str) -> anyhow::Result<Response<Bytes>> {
    let (tls, name) = remote.tls.clone().map_err(anyhow::Error::msg)?;
    let mut request = Request::new(request_body(Empty::new()));
    *request.uri_mut() = target.path.parse()?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&target.authority())?);
    headers.insert(ACCEPT, HeaderValue::from_str(accept)?);
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
    if !known.is_empty() {
        headers.insert(IF_NONE_MATCH, HeaderValue::from_str(known)?);
    }
    let groups = vec![MASTERS.to_owned()];
    proxy::name_user(headers, &UserInfo { name: "system:kube-aggregator".to_owned(), groups, ..UserInfo::default() });
    let (parts, body) = connect::secured(target, tls, name, request).await?.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
