//! Objects as tables, as their metadata alone, and in the version the client asked for.
//!
//! Must not know: HTTP, or how an answer came about.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use pintle_api::kinds::{Kind, convert};
use pintle_api::status::Status;
use pintle_api::tables::{self, Include};
use serde_json::{Value, json};

use super::{list_kind, list_meta};
use crate::cache::Stored;
use crate::call::{Call, List};
use crate::conversion;
use crate::negotiate::As;

/// The object's JSON as a client of `kind` reads it: the stored bytes themselves, where `kind` is the stored one.
pub fn json(kind: &Kind, object: &Stored) -> Result<Bytes, Status> {
    if !convert::is_face(kind) && kind.custom.is_none() {
        return Ok(object.json.clone());
    }
    Ok(Bytes::from(of_stored(kind, object)?.to_string()))
}

pub fn of_stored(kind: &Kind, object: &Stored) -> Result<Value, Status> {
    let mut value = object.face(kind).map_or_else(|| object.value(), |face| Value::clone(&face));
    if conversion::of(kind).is_none() {
        convert::from_stored(kind, &mut value);
    }
    if let Some(resource) = kind.custom {
        if resource.conversion.is_some() && value["apiVersion"] != kind.api_version() {
            return Err(Status::internal(format!("{} was not converted to {}", object.key, kind.api_version())));
        }
        // it may have been written under another version or schema
        value["apiVersion"] = kind.api_version().into();
        resource.prune(&mut value).map_err(Status::internal)?;
        resource.fill(&mut value);
    }
    Ok(value)
}

/// A lone object, shaped.
pub fn value(call: &Call, value: Value) -> Result<Value, Status> {
    // a Status, a Scale, … stays what it is, whatever was asked for
    let foreign = value["kind"] != call.kind.kind;
    match call.accepted.shape {
        As::Object => Ok(value),
        _ if foreign => Ok(value),
        As::Partial => Ok(partial(call.accepted.meta_version, value)),
        As::Table => {
            let list = json!({ "resourceVersion": value["metadata"]["resourceVersion"] });
            table(call, &[&value], list)
        }
    }
}

fn include(call: &Call) -> Result<Include, Status> {
    Include::parse(call.query.get("includeObject").unwrap_or_default()).map_err(Status::bad_request)
}

fn table(call: &Call, items: &[&Value], list: Value) -> Result<Value, Status> {
    let mut table = tables::render(call.kind, items, list, Timestamp::now(), include(call)?);
    table["apiVersion"] = meta_version(call).into();
    Ok(table)
}

fn meta_version(call: &Call) -> String {
    format!("meta.k8s.io/{}", call.accepted.meta_version)
}

/// A list, shaped.
pub fn list(call: &Call, found: &List) -> Result<Value, Status> {
    let items: Vec<Value> = found.items.iter().map(|i| of_stored(call.kind, i)).collect::<Result<_, _>>()?;
    let meta = list_meta(found);
    Ok(match call.accepted.shape {
        As::Partial => {
            let items: Vec<Value> = items.into_iter().map(|i| partial(call.accepted.meta_version, i)).collect();
            let version = meta_version(call);
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": meta, "items": items })
        }
        As::Table => table(call, &items.iter().collect::<Vec<_>>(), meta)?,
        As::Object => json!({
            "kind": list_kind(call.kind), "apiVersion": call.kind.api_version(), "metadata": meta, "items": items,
        }),
    })
}

pub fn partial(meta_version: &str, mut value: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{meta_version}"),
        "metadata": value["metadata"].take(),
    })
}

/// As [`partial`], of the bytes that are there. Every version of an object has the same metadata.
fn partial_json(meta_version: &str, object: &Stored) -> Bytes {
    let metadata = object.metadata();
    let head = format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{meta_version}","metadata":"#);
    let mut out = Vec::with_capacity(head.len() + metadata.len() + 1);
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&metadata);
    out.push(b'}');
    out.into()
}

/// One object as a watcher of `call` gets it; the `first` table of a watch names its columns.
pub fn watched(call: &Call, object: &Arc<Stored>, first: bool) -> Result<Bytes, Status> {
    match call.accepted.shape {
        As::Object => json(call.kind, object),
        As::Partial => Ok(partial_json(call.accepted.meta_version, object)),
        As::Table => {
            let value = of_stored(call.kind, object)?;
            let mut table = tables::render_event(call.kind, &value, Timestamp::now(), include(call)?, first);
            table["apiVersion"] = meta_version(call).into();
            Ok(Bytes::from(table.to_string()))
        }
    }
}
