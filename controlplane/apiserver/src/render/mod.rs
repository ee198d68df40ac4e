//! Answers in the form the client asked for. What is stored is passed on as it is: nothing that exists as bytes is
//! written a second time.
//!
//! Must not know: how an answer came about.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use http::{Response, StatusCode};
use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use serde_json::{Value, json};

use crate::body::Body;
use crate::cache::Stored;
use crate::call::{Call, List, Reply};
use crate::negotiate::{Accepted, As, Format};

pub mod gzip;
pub mod protobuf;
pub mod shape;

/// The response to `call`, its warnings included.
pub fn reply(call: &Call, reply: Result<Reply, Status>) -> Response<Body> {
    let mut response = match reply.and_then(|reply| answer(call, reply)) {
        Ok(response) => response,
        Err(error) => status(&error, Accepted { shape: As::Object, ..call.accepted }),
    };
    for warning in call.warnings.take() {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

fn answer(call: &Call, reply: Reply) -> Result<Response<Body>, Status> {
    match reply {
        Reply::Http(response) => Ok(response),
        Reply::Value { code, value } => Ok(self::value(code, &shape::value(call, value)?, call.accepted)),
        Reply::Stored { code, object } => stored(call, code, &object),
        Reply::List(found) => list(call, found),
    }
}

fn stored(call: &Call, code: u16, object: &Arc<Stored>) -> Result<Response<Body>, Status> {
    if call.accepted == Accepted::default() {
        let json = shape::json(call.kind, object)?;
        return Ok(respond(code, Format::Json, Body::pieces([json, NEWLINE].into())));
    }
    Ok(value(code, &shape::value(call, shape::of_stored(call.kind, object)?)?, call.accepted))
}

const NEWLINE: Bytes = Bytes::from_static(b"\n");

fn list(call: &Call, found: List) -> Result<Response<Body>, Status> {
    if call.accepted.format == Format::Protobuf && call.accepted.shape == As::Object {
        return protobuf::list(call, &found);
    }
    if call.accepted != Accepted::default() {
        return Ok(value(200, &shape::list(call, &found)?, call.accepted));
    }
    let mut pieces = VecDeque::with_capacity(found.items.len() * 2 + 2);
    let head = json!({
        "apiVersion": call.kind.api_version(), "kind": list_kind(call.kind), "metadata": list_meta(&found),
    });
    let mut head = head.to_string();
    head.pop();
    head.push_str(",\"items\":[");
    pieces.push_back(Bytes::from(head));
    for (index, item) in found.items.iter().enumerate() {
        if index > 0 {
            pieces.push_back(Bytes::from_static(b","));
        }
        pieces.push_back(shape::json(call.kind, item)?);
    }
    pieces.push_back(Bytes::from_static(b"]}\n"));
    Ok(respond(200, Format::Json, Body::pieces(pieces)))
}

pub fn list_kind(kind: &Kind) -> String {
    kind.custom.map_or_else(|| format!("{}List", kind.kind), |resource| resource.list_kind.clone())
}

pub fn list_meta(found: &List) -> Value {
    let mut meta = json!({ "resourceVersion": found.revision.to_string() });
    if let Some(token) = &found.continue_token {
        meta["continue"] = token.as_str().into();
    }
    if let Some(remaining) = found.remaining {
        meta["remainingItemCount"] = remaining.into();
    }
    meta
}

/// Any document.
pub fn value(code: u16, value: &Value, accepted: Accepted) -> Response<Body> {
    if let (Format::Protobuf, Some(bytes)) = (accepted.format, protobuf::object(value)) {
        return respond(code, Format::Protobuf, bytes.into());
    }
    let (format, text) = match accepted.format {
        Format::Yaml => (Format::Yaml, serde_yaml_ng::to_string(value).unwrap_or_default()),
        _ if accepted.pretty => (Format::Json, serde_json::to_string_pretty(value).unwrap_or_default() + "\n"),
        _ => (Format::Json, format!("{value}\n")),
    };
    respond(code, format, text.into())
}

/// A failure. Whoever is told to come back is told when.
pub fn status(status: &Status, accepted: Accepted) -> Response<Body> {
    let mut response = value(status.code, &status.to_value(), accepted);
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64().filter(|s| *s > 0) {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

pub fn respond(code: u16, format: Format, body: Body) -> Response<Body> {
    with_type(code, format.media_type(), body)
}

pub fn text(code: u16, text: impl Into<Body>) -> Response<Body> {
    let mut response = with_type(code, "text/plain; charset=utf-8", text.into());
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

pub fn with_type(code: u16, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// What a path answers that nobody serves.
pub fn nothing_here() -> Response<Body> {
    text(404, "404 page not found\n")
}
