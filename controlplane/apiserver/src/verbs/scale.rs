//! `scale`: how many replicas, as one small object over several kinds.
//!
//! Must not know: who makes the replicas.

use std::sync::Arc;

use pintle_api::field::{self, Path};
use pintle_api::kinds::Kind;
use pintle_api::object::{self, metadata_mut};
use pintle_api::patch;
use pintle_api::selector::LabelSelector;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::change::{Source, change};
use crate::body::RequestBody;
use crate::cache::Stored;
use crate::call::{Call, Reply};
use crate::conversion;
use crate::negotiate;
use crate::render::shape;
use crate::request::{WriteOptions, decode};
use crate::server::ApiServer;

pub async fn carry_out(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let name = call.info.name.as_str();
    let find = || server.cache(call.kind)?.get(call.namespace(), name).ok_or_else(|| call.not_found(name));
    if call.info.verb == "get" {
        let found: Arc<Stored> = find()?;
        conversion::prepare(server, call.kind, std::iter::once(&found)).await?;
        let value = shape::of_stored(call.kind, &found)?;
        return Ok(Reply::Value { code: 200, value: scale_of(call.kind, &value) });
    }
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let bytes = decode::read(body).await?;
    let media_type = negotiate::media_type(call.header(http::header::CONTENT_TYPE));
    let sent = match call.info.verb.as_str() {
        "update" => decode::value(&bytes, negotiate::content(&call.headers)?, "Scale")?,
        _ => serde_json::from_slice(&bytes)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?,
    };
    let make = |old: &Value| {
        let scale = match call.info.verb.as_str() {
            "update" => sent.clone(),
            _ if media_type == "application/json-patch+json" => patch::json(&scale_of(call.kind, old), &sent)?,
            _ => patch::merge(&scale_of(call.kind, old), &sent)?,
        };
        scaled(call.kind, old, scale, name)
    };
    match change(server, call, &options, Source::Made(&make)).await? {
        Reply::Stored { code, object } => {
            conversion::prepare(server, call.kind, std::iter::once(&object)).await?;
            Ok(Reply::Value { code, value: scale_of(call.kind, &shape::of_stored(call.kind, &object)?) })
        }
        Reply::Value { code, value } => Ok(Reply::Value { code, value: scale_of(call.kind, &value) }),
        other => Ok(other),
    }
}

/// What `scale` shows of an object.
pub(crate) fn scale_of(kind: &Kind, object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut kept = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !meta[field].is_null() {
            kept[field] = meta[field].clone();
        }
    }
    let mut spec = json!({});
    let (wanted, there, selector) = match kind.custom {
        None => (&object["spec"]["replicas"], &object["status"]["replicas"], selector_of(object)),
        Some(resource) => {
            let selector = resource.at("labelSelectorPath", object).as_str().map(str::to_owned);
            (resource.at("specReplicasPath", object), resource.at("statusReplicasPath", object), selector)
        }
    };
    if let Some(replicas) = wanted.as_i64().filter(|r| *r != 0) {
        spec["replicas"] = replicas.into();
    }
    let mut status = json!({ "replicas": there.as_i64().unwrap_or(0) });
    if let Some(selector) = selector {
        status["selector"] = selector.into();
    }
    json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status })
}

fn selector_of(object: &Value) -> Option<String> {
    let selector = &object["spec"]["selector"];
    if object["kind"] == "ReplicationController" {
        let pairs = selector.as_object()?.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
        return Some(pairs.collect::<Vec<_>>().join(","));
    }
    let selector = serde_json::from_value(selector.clone()).ok()?;
    LabelSelector::from_metav1(Some(&selector)).ok().map(|s| s.to_string())
}

/// The object with the scale's replicas, at the version the scale was read at.
fn scaled(kind: &Kind, old: &Value, scale: Value, name: &str) -> Result<Value, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        let error = field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("Scale", "autoscaling", name, &[error]));
    }
    let mut new = old.clone();
    match kind.custom {
        Some(resource) => resource.set_replicas(&mut new, replicas),
        None => new["spec"]["replicas"] = replicas.into(),
    }
    let version = object::meta(&scale, "resourceVersion").to_owned();
    if !version.is_empty() {
        metadata_mut(&mut new).insert("resourceVersion".to_owned(), version.into());
    }
    Ok(new)
}
