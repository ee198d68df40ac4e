//! Requests for the insides of pods, services and nodes, relayed to where they run: a kubelet, or the pod itself.
//! An upgraded connection is relayed as bytes, each direction closed by itself.
//!
//! Must not know: what the streams carry.

pub(crate) mod connect;
pub(crate) mod forward;
mod html;
mod links;
mod messages;
pub(crate) mod proxied;
pub(crate) mod target;

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pintle_api::kinds;
use pintle_api::status::Status;
use pintle_daemon::relay::both_ways;

use crate::access;
use crate::admission::{Attributes, Operation, webhooks};
use crate::auth::UserInfo;
use crate::body::{Body, RequestBody, request_body};
use crate::call::Warnings;
use crate::negotiate;
use crate::render;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use links::Around;
use target::Target;

/// The longest refusal that is passed on as a message, in bytes.
const REFUSAL: usize = 50_000;

/// Whether `info` is for something that runs elsewhere.
pub fn is_relayed(info: &RequestInfo) -> bool {
    match info.resource.as_str() {
        "pods" => matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy"),
        "services" | "nodes" => info.subresource == "proxy",
        _ => false,
    }
}

pub async fn serve(
    server: &Arc<ApiServer>,
    parts: Parts,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    body: RequestBody,
) -> Response<Body> {
    let errors = negotiate::accepted_for_errors(&parts.headers, query);
    let answer = match info.subresource.as_str() {
        "log" => log(server, parts, info, query).await,
        "proxy" => match connects(server, info, query, user).await {
            Ok(()) => proxy(server, parts, info, body).await,
            Err(status) => Err(status),
        },
        _ => stream(server, parts, info, query, user, body).await,
    };
    answer.unwrap_or_else(|status| render::status(&status, errors))
}

/// The connection that is the client's to upgrade, where it asks for that.
pub(crate) fn upgrade(parts: &mut Parts) -> Option<OnUpgrade> {
    parts.headers.contains_key(UPGRADE).then(|| parts.extensions.remove::<OnUpgrade>()).flatten()
}

fn request(
    method: Method,
    target: &Target,
    host: &str,
    mut headers: HeaderMap,
    body: RequestBody,
) -> Result<Request<RequestBody>, Status> {
    headers.insert(HOST, HeaderValue::from_str(host).map_err(Status::internal)?);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target.path.parse().map_err(Status::internal)?;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn log(
    server: &ApiServer,
    mut parts: Parts,
    info: &RequestInfo,
    query: &Query,
) -> Result<Response<Body>, Status> {
    if parts.method != Method::GET {
        return Err(Status::method_not_allowed(&info.verb, "pods/log", ""));
    }
    let Some(target) = target::pod(server, info, query)? else {
        let mut nothing = Response::new(Body::empty());
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    };
    let request = request(Method::GET, &target, &target.authority(), HeaderMap::new(), request_body(nothing()))?;
    let response = connect::send(server, &target, request).await.map_err(|error| {
        let url = format!("https://{}{}", target.authority(), target.path);
        Status::new(500, "InternalError", format!("Get {url:?}: {error:#}"))
    })?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    if messages::asked(&parts.headers) {
        let near = upgrade(&mut parts).ok_or_else(|| Status::bad_request("not websocket protocol"))?;
        return messages::answer(&parts.headers, near, response.into_body());
    }
    let mut answer = Response::new(Body::Relayed(request_body(response.into_body())));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

fn nothing() -> Empty<bytes::Bytes> {
    Empty::new()
}

/// Has webhooks admit the connection, which they know by its options.
async fn connects(server: &Arc<ApiServer>, info: &RequestInfo, query: &Query, user: &UserInfo) -> Result<(), Status> {
    let Some(kind) = kinds::find(&info.group, &info.version, &info.resource) else { return Ok(()) };
    let warnings = Warnings::default();
    let attributes = Attributes {
        operation: Operation::Connect,
        kind,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        user,
        old: None,
        warnings: &warnings,
        dry_run: false,
    };
    let mut options = target::options(kind, info, query);
    webhooks::admit(server, &attributes, &mut options).await
}

/// `exec`, `attach` and `portforward`. Whoever may only `get` them may not begin them by way of a WebSocket.
async fn stream(
    server: &Arc<ApiServer>,
    mut parts: Parts,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    body: RequestBody,
) -> Result<Response<Body>, Status> {
    if !matches!(parts.method, Method::GET | Method::POST) {
        return Err(Status::method_not_allowed(&info.verb, "pods", ""));
    }
    access::may(server, user, info, "create")?;
    connects(server, info, query, user).await?;
    let target = target::pod(server, info, query)?;
    let target = target.ok_or_else(|| Status::internal("a stream has no place to go"))?;
    let near = upgrade(&mut parts).ok_or_else(|| Status::bad_request("Upgrade request required"))?;
    let headers = forward::headers(&parts, true);
    let request = request(parts.method, &target, &target.authority(), headers, body)?;
    let response = connect::send(server, &target, request).await;
    let response = response.map_err(|error| Status::internal(format!("error dialing backend: {error:#}")))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    Ok(switched(near, response))
}

async fn proxy(
    server: &ApiServer,
    mut parts: Parts,
    info: &RequestInfo,
    body: RequestBody,
) -> Result<Response<Body>, Status> {
    let whole = parts.uri.path().trim_matches('/').split('/').count();
    let segments = (whole + 3).saturating_sub(info.parts.len());
    let target = proxied::find(server, info, forward::rest(&parts, segments))?;
    let near = upgrade(&mut parts);
    if let Some(redirect) = forward::redirect(&parts, segments).filter(|_| near.is_none()) {
        return Ok(redirect);
    }
    let asked = forward::asked(&parts);
    let around = Around { prefix: forward::prefix(&parts, segments), backend: target.authority(), asked };
    let mut headers = forward::headers(&parts, near.is_some());
    if near.is_none() {
        let uri = HeaderValue::from_str(parts.uri.path()).map_err(Status::internal)?;
        headers.insert("x-forwarded-uri", uri);
    }
    let has_body = parts.method != Method::HEAD;
    let request = request(parts.method, &target, &around.asked, headers, body)?;
    let response = connect::send(server, &target, request).await;
    let Some(near) = near else {
        let response = response.map_err(|error| {
            Status::new(503, "ServiceUnavailable", format!("error trying to reach service: {error:#}"))
        })?;
        return Ok(forward::answer(response, around, has_body));
    };
    let response = response.map_err(|error| Status::internal(format!("error dialing backend: {error:#}")))?;
    match response.status().as_u16() {
        101 => Ok(switched(near, response)),
        400.. => Ok(response.map(|body| Body::Relayed(request_body(body)))),
        code => Err(Status::internal(format!("invalid upgrade response: status code {code}"))),
    }
}

/// The answer that a connection is the two ends' own now; it is relayed from here.
pub(crate) fn switched(near: OnUpgrade, mut response: Response<Incoming>) -> Response<Body> {
    tokio::spawn(pipe(near, hyper::upgrade::on(&mut response)));
    let (parts, _) = response.into_parts();
    Response::from_parts(parts, Body::empty())
}

/// Bytes both ways; one side closing its half leaves the other open.
async fn pipe(near: OnUpgrade, far: OnUpgrade) {
    let (near, far) = match tokio::try_join!(near, far) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade did not come about"),
    };
    if let Err(error) = both_ways(TokioIo::new(near), TokioIo::new(far)).await {
        tracing::debug!(%error, "a relayed stream ended");
    }
}

/// A kubelet's refusal as a Status.
async fn refused(response: Response<Incoming>) -> Status {
    let code = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
    match code {
        400 => Status::bad_request(text),
        404 => Status::new(404, "NotFound", text),
        401 | 403 => Status::new(code, "Forbidden", text),
        500 => Status::internal(text),
        code => Status::new(code, "InternalError", text),
    }
}
