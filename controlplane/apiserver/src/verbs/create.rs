//! `create`.
//!
//! Must not know: any kind.

use std::sync::Arc;

use jiff::Timestamp;
use pintle_api::object::{self, metadata_mut};
use pintle_api::status::Status;
use serde_json::Value;

use super::write;
use crate::admission::{self, Attributes, Operation};
use crate::body::RequestBody;
use crate::cache::{CommitError, Stored};
use crate::call::{Call, Reply};
use crate::conversion;
use crate::request::WriteOptions;
use crate::rules::delete::rfc3339;
use crate::rules::write as rules;
use crate::server::ApiServer;
use crate::services;

/// How often another name is made up where the first is taken, as upstream tries.
const NAMES: usize = 8;

pub async fn create(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let object = super::read_object(call, body, options.field_validation).await?;
    create_object(server, call, object, &options).await
}

/// Creates `object`, which is of the call's kind.
pub(crate) async fn create_object(
    server: &Arc<ApiServer>,
    call: &Call,
    object: Value,
    options: &WriteOptions,
) -> Result<Reply, Status> {
    make(server, call, object, options, true).await
}

/// Creates what server-side apply made: it has written down who manages what.
pub(super) async fn create_applied(
    server: &Arc<ApiServer>,
    call: &Call,
    object: Value,
    options: &WriteOptions,
) -> Result<Reply, Status> {
    make(server, call, object, options, false).await
}

async fn make(
    server: &Arc<ApiServer>,
    call: &Call,
    mut object: Value,
    options: &WriteOptions,
    manages: bool,
) -> Result<Reply, Status> {
    if !object::meta(&object, "resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    server.custom.may_create(call.kind)?;
    let namespace = namespace_of(call, &object);
    rules::align_namespace(&mut object, call.kind, &namespace)?;
    write::defaults(call, &mut object)?;
    for uid in rules::dedup_owners(&mut object) {
        call.warnings.add(write::owners_twice(&uid));
    }
    let generated = name_it(&mut object);
    admit_and_check(server, call, &mut object, &namespace, options).await?;
    if manages {
        write::manage(call, None, &mut object, &options.field_manager);
    }
    let taken = services::allocate(server, call.kind, &mut object, None, options.dry_run)?;
    if services::is_service(call.kind) {
        write::canonicalize(call, &mut object)?;
    }
    if options.dry_run {
        return dry_run(server, call, object);
    }
    if let Some(kept) = conversion::to_storage(server, call.kind, &object).await? {
        object = kept;
    }
    let stored = commit(server, call, object, generated).await?;
    taken.keep();
    Ok(Reply::Stored { code: 201, object: stored })
}

async fn admit_and_check(
    server: &Arc<ApiServer>,
    call: &Call,
    object: &mut Value,
    namespace: &str,
    options: &WriteOptions,
) -> Result<(), Status> {
    let name = object::name(object).to_owned();
    let admission = Attributes {
        operation: Operation::Create,
        kind: call.kind,
        subresource: "",
        namespace,
        name: &name,
        user: &call.user,
        old: None,
        warnings: &call.warnings,
        dry_run: options.dry_run,
    };
    admission::mutate(server, &admission, object).await?;
    rules::fill_new(object, call.kind, &rfc3339(Timestamp::now()), &uuid::Uuid::new_v4().to_string());
    write::check_new(call, object)?;
    write::canonicalize(call, object)?;
    admission::validate(server, &admission, object).await
}

/// A namespace is in itself, as admission sees it.
fn namespace_of(call: &Call, object: &Value) -> String {
    if rules::is_namespace(call.kind) { object::name(object).to_owned() } else { call.info.namespace.clone() }
}

/// Makes a name up where only its beginning was given; says whether it did.
fn name_it(object: &mut Value) -> bool {
    let prefix = object::meta(object, "generateName").to_owned();
    if prefix.is_empty() || !object::name(object).is_empty() {
        return false;
    }
    rename(object, &prefix);
    true
}

fn rename(object: &mut Value, prefix: &str) {
    let name = rules::generated_name(prefix, rand::random());
    metadata_mut(object).insert("name".to_owned(), name.into());
}

async fn commit(server: &ApiServer, call: &Call, mut object: Value, generated: bool) -> Result<Arc<Stored>, Status> {
    let cache = server.cache(call.kind)?;
    let namespace = object::namespace(&object).to_owned();
    for attempt in 1.. {
        let name = object::name(&object).to_owned();
        match cache.create(&namespace, &name, write::bytes_of_canonical(call, &object)?).await {
            Ok(stored) => return Ok(stored),
            Err(CommitError::Exists) if generated && attempt < NAMES => {
                let prefix = object::meta(&object, "generateName").to_owned();
                rename(&mut object, &prefix);
            }
            Err(CommitError::Exists) => return Err(exists(server, call, &object, generated)),
            Err(error) => return Err(write::commit_error(call, &name, error)),
        }
    }
    Err(Status::internal("no name was free"))
}

fn exists(server: &ApiServer, call: &Call, object: &Value, generated: bool) -> Status {
    let name = object::name(object);
    let mut status = Status::already_exists(call.kind.plural, call.kind.group, name);
    if generated {
        status.message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            pintle_api::status::qualified(call.kind.plural, call.kind.group)
        );
    }
    let there = server.cache(call.kind).ok().and_then(|c| c.get(object::namespace(object), name));
    if there.is_some_and(|o| !o.value()["metadata"]["deletionTimestamp"].is_null()) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

fn dry_run(server: &ApiServer, call: &Call, object: Value) -> Result<Reply, Status> {
    let taken = server.cache(call.kind)?.get(object::namespace(&object), object::name(&object));
    if taken.is_some() {
        return Err(exists(server, call, &object, false));
    }
    Ok(Reply::Value { code: 201, value: object })
}
