//! A request for an aggregated API, passed on to the server that has it, with the word of this one on who asks.
//! Source: `kube-aggregator/pkg/apiserver/handler_proxy.go`.
//!
//! Must not know: what is asked.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::Remote;
use crate::auth::UserInfo;
use crate::body::{Body, RequestBody, request_body};
use crate::relay::{self, connect, forward};
use crate::render;
use crate::request::RequestInfo;
use crate::server::ApiServer;

/// How long discovery of one group and version may take.
const DISCOVERY: Duration = Duration::from_secs(5);

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUPS: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// A refusal of this server's own: its code and its words.
struct Refusal(u16, String);

impl Refusal {
    fn unavailable(why: impl ToString) -> Self {
        Self(503, why.to_string())
    }
}

pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    remote: &Remote,
    parts: Parts,
    info: &RequestInfo,
    user: &UserInfo,
    body: RequestBody,
) -> Response<Body> {
    let passed_on = pass_on(server, remote, parts, user, body);
    let answer = match info.is_resource {
        true => passed_on.await,
        false => match tokio::time::timeout(DISCOVERY, passed_on).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::unavailable("context deadline exceeded")),
        },
    };
    answer.unwrap_or_else(|Refusal(code, why)| render::text(code, format!("{why}\n")))
}

async fn pass_on(
    server: &ApiServer,
    remote: &Remote,
    mut parts: Parts,
    user: &UserInfo,
    body: RequestBody,
) -> Result<Response<Body>, Refusal> {
    if !remote.is_available() {
        return Err(Refusal::unavailable("service unavailable"));
    }
    let (tls, name) = remote.tls.clone().map_err(|why| Refusal(500, why))?;
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let target = remote.target(server, path).map_err(|error| {
        tracing::debug!(api_service = remote.registration.name, "not resolved: {error:#}");
        Refusal::unavailable("service unavailable")
    })?;
    let near = relay::upgrade(&mut parts);
    let mut request = Request::new(body);
    *request.uri_mut() = target.path.parse().map_err(Refusal::unavailable)?;
    *request.headers_mut() = forward::headers(&parts, near.is_some());
    name_user(request.headers_mut(), user);
    let host = HeaderValue::from_str(&target.authority()).map_err(Refusal::unavailable)?;
    request.headers_mut().insert(HOST, host);
    *request.method_mut() = parts.method;
    let response = connect::secured(&target, tls, name, request).await;
    let response = response.map_err(|error| Refusal::unavailable(format!("{error:#}")))?;
    let Some(near) = near else { return answer(response) };
    match response.status().as_u16() {
        101 => Ok(relay::switched(near, response)),
        400.. => Ok(response.map(|body| Body::Relayed(request_body(body)))),
        code => Err(Refusal::unavailable(format!("invalid upgrade response: status code {code}"))),
    }
}

fn answer(response: Response<Incoming>) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_redirection() && parts.headers.contains_key(LOCATION) {
        return Err(Refusal(502, "the backend attempted to redirect this request, which is not permitted".to_owned()));
    }
    forward::end_to_end(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::Relayed(request_body(body))))
}

/// Says who asks, whatever the client said of that.
pub(super) fn name_user(headers: &mut HeaderMap, user: &UserInfo) {
    let said = |name: &HeaderName| [USER, UID, GROUPS].contains(name) || name.as_str().starts_with(EXTRA);
    let said: Vec<HeaderName> = headers.keys().filter(|name| said(name)).cloned().collect();
    said.iter().for_each(|name| drop(headers.remove(name)));
    // as bytes: names may hold what is no ASCII
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
    headers.extend(value(&user.name).map(|name| (USER, name)));
    if !user.uid.is_empty() {
        headers.extend(value(&user.uid).map(|uid| (UID, uid)));
    }
    for group in user.groups.iter().filter_map(|group| value(group)) {
        headers.append(GROUPS, group);
    }
    for (key, values) in &user.extra {
        let Ok(name) = format!("{EXTRA}{}", escaped(key)).parse::<HeaderName>() else { continue };
        for it in values.iter().filter_map(|it| value(it)) {
            headers.append(name.clone(), it);
        }
    }
}

/// A key as part of a header's name: what may not be there is percent-encoded.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'%' => text.push_str("%25"),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                text.push(char::from(byte));
            }
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_what_this_server_says() {
        let mut headers = HeaderMap::new();
        for name in ["x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-scopes", "x-other"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("forged"));
        }
        let user = UserInfo {
            name: "jane".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("example.com/scopes".to_owned(), vec!["x".to_owned()])].into(),
            ..UserInfo::default()
        };
        name_user(&mut headers, &user);
        let mut told: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "x-other: forged",
                "x-remote-extra-example.com%2fscopes: x",
                "x-remote-group: a",
                "x-remote-group: b",
                "x-remote-user: jane",
            ]
        );
    }
}
