//! Answers as protobuf.
//!
//! Must not know: how an answer came about.

use http::Response;
use pintle_api::status::Status;
use pintle_api::{canonical, facts, protobuf};
use serde_json::Value;

use super::{list_kind, list_meta, respond, shape};
use crate::body::Body;
use crate::call::{Call, List};
use crate::negotiate::Format;

/// An object in its envelope; `None` where the facts do not know its kind.
pub fn object(value: &Value) -> Option<Vec<u8>> {
    let (version, kind) = (value["apiVersion"].as_str()?, value["kind"].as_str()?);
    let ty = facts::type_of_api_version(version, kind)?;
    let mut value = value.clone();
    canonical::canonicalize(&mut value, ty).ok()?;
    Some(protobuf::encode(&value, ty))
}

pub fn list(call: &Call, found: &List) -> Result<Response<Body>, Status> {
    let ty = facts::type_of(call.kind.group, call.kind.version, call.kind.kind);
    let ty = ty.ok_or_else(|| Status::internal(format!("{} has no form in protobuf", call.kind.kind)))?;
    let mut items = Vec::with_capacity(found.items.len());
    for item in &found.items {
        items.push(protobuf::encode_message(&shape::of_stored(call.kind, item)?, ty));
    }
    let message = protobuf::list(&list_meta(found), items.iter().map(Vec::as_slice));
    let bytes = protobuf::envelope(&call.kind.api_version(), &list_kind(call.kind), &message);
    Ok(respond(200, Format::Protobuf, bytes.into()))
}

/// The media type of a watch in this form.
pub const STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// One event of a watch: its length in four bytes, then the event.
pub fn frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let event = protobuf::watch_event(kind, object);
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&event);
    frame
}
