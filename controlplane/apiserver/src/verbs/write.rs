//! What every write has in common: defaults, admission, rules, and the bytes that are kept.
//!
//! Must not know: which verb it is.

use bytes::Bytes;
use jiff::Timestamp;
use pintle_api::apply::{self, Writer};
use pintle_api::facts::{self, Type};
use pintle_api::field::Errors;
use pintle_api::kinds::convert;
use pintle_api::object::{self, metadata_mut};
use pintle_api::status::Status;
use pintle_api::validation::meta;
use pintle_api::{canonical, strict};
use serde_json::Value;

use crate::cache::CommitError;
use crate::call::Call;
use crate::conversion;
use crate::request::FieldValidation;
use crate::rules::delete::rfc3339;

pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Fills what the client left out.
pub fn defaults(call: &Call, object: &mut Value) -> Result<(), Status> {
    if let Some(resource) = call.kind.custom {
        resource.fill(object);
    }
    let Some(defaults) = call.kind.hooks.defaults else { return Ok(()) };
    defaults(object).map_err(|error| undecodable(call, &error))
}

/// Says what the client sent and nobody reads, as loud as it asked for.
pub fn check_fields(call: &Call, unknown: &[String], validation: FieldValidation) -> Result<(), Status> {
    match validation {
        _ if unknown.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            unknown.iter().for_each(|field| call.warnings.add(field.as_str()));
            Ok(())
        }
        FieldValidation::Strict => {
            let (kind, version) = (call.kind.kind, call.kind.version);
            let why = strict::message(unknown);
            Err(Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}")))
        }
    }
}

/// The type that the objects of the call's kind have.
pub fn type_of(call: &Call) -> Option<&'static Type> {
    facts::type_of(call.kind.group, call.kind.version, call.kind.kind)
}

/// What is known of the objects of the call's kind for managing their fields.
pub fn managed_type(call: &Call) -> Option<&'static Type> {
    call.kind.custom.map_or_else(|| type_of(call), |resource| Some(resource.ty))
}

/// Which fields of an object nobody reads; of a custom resource, they are dropped on the way.
pub fn unknown(call: &Call, object: &Value) -> Vec<String> {
    if let Some(resource) = call.kind.custom {
        let dropped = resource.prune(&mut object.clone()).unwrap_or_default();
        return dropped.iter().map(|path| format!("unknown field {path:?}")).collect();
    }
    type_of(call).map(|ty| strict::unknown(object, ty)).unwrap_or_default()
}

/// The one form that a decoded object has; what cannot be decoded is refused.
pub fn canonicalize(call: &Call, object: &mut Value) -> Result<(), Status> {
    if let Some(resource) = call.kind.custom {
        return resource.prune(object).map(drop).map_err(|error| undecodable(call, &error));
    }
    let Some(ty) = type_of(call) else { return Ok(()) };
    canonical::canonicalize(object, ty).map_err(|error| undecodable(call, &error))
}

fn undecodable(call: &Call, error: &dyn std::fmt::Display) -> Status {
    let (kind, version) = (call.kind.kind, call.kind.version);
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
}

/// Prepares and checks a new object.
pub fn check_new(call: &Call, object: &mut Value) -> Result<(), Status> {
    let mut errors = match call.kind.hooks.create {
        Some(create) => create(object).map_err(|error| undecodable(call, &error))?,
        None => Errors::new(),
    };
    errors.extend(meta::meta(call.kind, object));
    errors.extend(call.kind.custom.map(|resource| resource.check(object, None)).unwrap_or_default());
    refuse(call, object, &errors)?;
    warn(call, object)
}

/// Prepares and checks a changed object.
pub fn check_changed(call: &Call, new: &mut Value, old: &Value) -> Result<(), Status> {
    let mut errors = meta::meta(call.kind, new);
    errors.extend(meta::meta_update(new, old));
    errors.extend(call.kind.custom.map(|resource| resource.check(new, Some(old))).unwrap_or_default());
    if let Some(update) = call.kind.hooks.update {
        errors.extend(update(new, old, &call.info.subresource).map_err(|error| undecodable(call, &error))?);
    }
    refuse(call, new, &errors)?;
    if call.info.subresource.is_empty() { warn(call, new) } else { Ok(()) }
}

fn refuse(call: &Call, object: &Value, errors: &Errors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(call.kind.kind, call.kind.group, object::name(object), errors))
}

fn warn(call: &Call, object: &Value) -> Result<(), Status> {
    let Some(warnings) = call.kind.hooks.warnings else { return Ok(()) };
    for warning in warnings(object).map_err(|error| undecodable(call, &error))? {
        call.warnings.add(warning);
    }
    Ok(())
}

/// The bytes that are kept: the stored version in canonical form, without resourceVersion.
pub fn bytes(call: &Call, object: &Value) -> Result<Bytes, Status> {
    bytes_of(call, object.clone())
}

/// As [`bytes`], of an object that nobody needs any more.
pub fn bytes_of(call: &Call, mut kept: Value) -> Result<Bytes, Status> {
    let (group, version, _) = call.kind.storage;
    // what a webhook converts was converted before
    if conversion::of(call.kind).is_none() {
        convert::to_stored(call.kind, &mut kept);
    }
    let ty = facts::type_of(group, version, call.kind.kind);
    if let Some(ty) = ty {
        canonical::canonicalize(&mut kept, ty).map_err(|error| undecodable(call, &error))?;
    }
    metadata_mut(&mut kept).remove("resourceVersion");
    match ty {
        Some(ty) => Ok(canonical::to_bytes(&kept, ty).into()),
        None => serde_json::to_vec(&kept).map(Bytes::from).map_err(Status::internal),
    }
}

/// The bytes that are kept of an object that is canonical already and has no resourceVersion.
pub fn bytes_of_canonical(call: &Call, object: &Value) -> Result<Bytes, Status> {
    match type_of(call) {
        Some(ty) if !convert::is_face(call.kind) => Ok(canonical::to_bytes(object, ty).into()),
        _ => bytes(call, object),
    }
}

/// A commit's failure as the client reads it.
pub fn commit_error(call: &Call, name: &str, error: CommitError) -> Status {
    let (plural, group) = (call.kind.plural, call.kind.group);
    match error {
        CommitError::Exists => Status::already_exists(plural, group, name),
        CommitError::Gone => Status::not_found(plural, group, name),
        CommitError::Conflict(_) => Status::conflict(plural, group, name, MODIFIED),
        CommitError::Store(error) => {
            tracing::error!(resource = plural, name, error = format!("{error:#}"), "the store failed");
            Status::internal(error)
        }
    }
}

/// Writes down who manages which fields. Both objects are as they will be stored.
pub fn manage(call: &Call, old: Option<&Value>, new: &mut Value, said: &str) {
    let Some(ty) = managed_type(call) else { return };
    let manager = call.manager(said);
    let now = rfc3339(Timestamp::now());
    apply::after_update(old, new, ty, &writer(call, &manager, &now));
}

/// Who writes. What the other side of `status` holds is not this write's to own.
pub fn writer<'a>(call: &'a Call, manager: &'a str, now: &'a str) -> Writer<'a> {
    let subresource = call.info.subresource.as_str();
    let reset: &[&[&str]] = match subresource {
        "status" => &[&["spec"]],
        "" if call.kind.subresource("status").is_some() => &[&["status"]],
        _ => &[],
    };
    Writer { manager, subresource, now, reset }
}

/// The warning about an owner named twice.
pub fn owners_twice(uid: &str) -> String {
    format!(
        ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uid}"
    )
}
