//! `patch`: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! Must not know: any kind.

use std::sync::Arc;

use jiff::Timestamp;
use pintle_api::field::{self, Path};
use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use super::change::{Source, change};
use super::write;
use crate::body::RequestBody;
use crate::call::{Call, Reply};
use crate::negotiate;
use crate::request::{FieldValidation, WriteOptions, decode, twice};
use crate::rules::delete::rfc3339;
use crate::rules::write as rules;
use crate::server::ApiServer;

const TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
                     application/strategic-merge-patch+json, application/apply-patch+yaml, \
                     application/apply-patch+cbor";

/// Of custom resources, whose schemas say nothing of strategies.
const CUSTOM_TYPES: &str = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

pub async fn patch(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let options = WriteOptions::parse(&call.query, "PatchOptions")?;
    let media_type = negotiate::media_type(call.header(http::header::CONTENT_TYPE));
    let bytes = decode::read(body).await?;
    if media_type == "application/apply-patch+yaml" {
        return apply(server, call, &options, &bytes).await;
    }
    if options.force.is_some() {
        let error = field::Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        return Err(Status::invalid("PatchOptions", "meta.k8s.io", "", &[error]));
    }
    let form = Form::of(&media_type)?;
    if matches!(form, Form::Strategic) && call.kind.custom.is_some() {
        return Err(negotiate::unsupported(CUSTOM_TYPES));
    }
    let patch: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let make = |old: &Value| finish(call, form.apply(call, old, &patch)?, &options);
    change(server, call, &options, Source::Made(&make)).await
}

/// A patched object as it would have been sent whole.
fn finish(call: &Call, mut new: Value, options: &WriteOptions) -> Result<Value, Status> {
    decode::check_kind(&mut new, call.kind.group, call.kind.version, call.kind.kind)?;
    rules::align_namespace(&mut new, call.kind, &call.info.namespace)?;
    rules::align_name(&mut new, &call.info.name)?;
    write::check_fields(call, &write::unknown(call, &new), options.field_validation)?;
    write::canonicalize(call, &mut new)?;
    write::defaults(call, &mut new)?;
    Ok(new)
}

/// Server-side apply: creates what is not there.
async fn apply(server: &Arc<ApiServer>, call: &Call, options: &WriteOptions, bytes: &[u8]) -> Result<Reply, Status> {
    if options.field_manager.is_empty() {
        let error = field::Error::required(&Path::new("fieldManager"), "is required for apply patch");
        return Err(Status::invalid("PatchOptions", "meta.k8s.io", "", &[error]));
    }
    let ty = write::managed_type(call).ok_or_else(|| negotiate::unsupported(TYPES))?;
    let config: Value = serde_yaml_ng::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    let undeclared = call.kind.custom.map(|it| it.undeclared(&config)).unwrap_or_default();
    pintle_api::apply::refuse_undeclared(&config, ty, &undeclared)?;
    check_twice(call, bytes, options.field_validation)?;
    let now = rfc3339(Timestamp::now());
    let writer = write::writer(call, &options.field_manager, &now);
    let force = options.force == Some(true);
    let make = |old: Option<&Value>| {
        let new = pintle_api::apply::apply(old, &config, ty, &writer, force)?;
        finish(call, new, &WriteOptions { field_validation: FieldValidation::Ignore, ..options.clone() })
    };
    let there = server.cache(call.kind)?.get(call.namespace(), &call.info.name).is_some();
    if there || !call.info.subresource.is_empty() {
        return change(server, call, options, Source::Applied(&|old| make(Some(old)))).await;
    }
    let uid = object::uid(&config);
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(call.kind.plural, call.kind.group, &call.info.name, &why));
    }
    crate::access::may_create(server, call)?;
    super::create::create_applied(server, call, make(None)?, options).await
}

/// Says which key of the YAML is there twice, as loud as the client asked for.
fn check_twice(call: &Call, bytes: &[u8], validation: FieldValidation) -> Result<(), Status> {
    let Err(why) = twice::refuse_twice(bytes) else { return Ok(()) };
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => call.warnings.add(why),
        FieldValidation::Strict => return Err(Status::bad_request(format!("error strict decoding YAML: {why}"))),
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Merge,
    Strategic,
}

impl Form {
    fn of(media_type: &str) -> Result<Self, Status> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => Err(negotiate::unsupported(TYPES)),
        }
    }

    fn apply(self, call: &Call, old: &Value, patch: &Value) -> Result<Value, Status> {
        match (self, write::type_of(call)) {
            (Self::Json, _) => pintle_api::patch::json(old, patch),
            (Self::Strategic, Some(ty)) => pintle_api::patch::strategic(old, patch, ty),
            (Self::Merge | Self::Strategic, _) => pintle_api::patch::merge(old, patch),
        }
    }
}
