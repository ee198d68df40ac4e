//! `update`, and what every change of an existing object has in common.
//!
//! Must not know: any kind.

use std::sync::Arc;
use std::time::Duration;

use pintle_api::field::{self, Path};
use pintle_api::object::{self, metadata_mut};
use pintle_api::status::Status;
use serde_json::Value;

use super::{create_object, write};
use crate::access;
use crate::admission::{self, Attributes, Operation};
use crate::body::RequestBody;
use crate::cache::{CommitError, Stored};
use crate::call::{Call, Reply};
use crate::conversion;
use crate::request::WriteOptions;
use crate::rules::{traits, write as rules};
use crate::server::ApiServer;
use crate::services;

/// How often a change is made again on top of somebody else's, where the client left that to the server.
const ATTEMPTS: usize = 10;

/// How long the cache may take to see a revision that a client has already seen.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Where a change comes from.
pub enum Source<'a> {
    /// `PUT`: the object as the client sent it.
    Sent(&'a Value),
    /// Made from the object as it is; the client did not see that.
    Made(&'a (dyn Fn(&Value) -> Result<Value, Status> + Sync)),
    /// As `Made`, by server-side apply: it has written down who manages what.
    Applied(&'a (dyn Fn(&Value) -> Result<Value, Status> + Sync)),
}

impl Source<'_> {
    fn manages(&self) -> bool {
        !matches!(self, Self::Applied(_))
    }
}

pub async fn update(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let mut sent = super::read_object(call, body, options.field_validation).await?;
    rules::align_namespace(&mut sent, call.kind, &call.info.namespace)?;
    rules::align_name(&mut sent, &call.info.name)?;
    write::defaults(call, &mut sent)?;
    for uid in rules::dedup_owners(&mut sent) {
        call.warnings.add(write::owners_twice(&uid));
    }
    let exists = server.cache(call.kind)?.get(call.namespace(), &call.info.name).is_some();
    if exists || !call.info.subresource.is_empty() || !traits::creates_on_update(call.kind) {
        return change(server, call, &options, Source::Sent(&sent)).await;
    }
    access::may_create(server, call)?;
    let meta = metadata_mut(&mut sent);
    meta.remove("resourceVersion");
    meta.remove("uid");
    create_object(server, call, sent, &options).await
}

/// Changes the call's object, and again where another change came between and the client did not name a version.
pub(crate) async fn change(
    server: &Arc<ApiServer>,
    call: &Call,
    options: &WriteOptions,
    source: Source<'_>,
) -> Result<Reply, Status> {
    let cache = server.cache(call.kind)?;
    let name = call.info.name.as_str();
    let mut newer = None;
    for _ in 0..ATTEMPTS {
        // what the store has said already the cache may not have heard of yet
        let known = newer.take().or_else(|| cache.get(call.namespace(), name));
        let current = known.ok_or_else(|| call.not_found(name))?;
        conversion::prepare(server, call.kind, std::iter::once(&current)).await?;
        let old = crate::render::shape::of_stored(call.kind, &current)?;
        let (mut new, insists) = propose(call, &source, &old)?;
        if insists && object::revision(&new) > current.revision {
            cache.at_least(object::revision(&new), CATCH_UP).await?;
            continue;
        }
        check_version(call, &new, &old, insists)?;
        let taken = prepare(server, call, options, &source, &mut new, &old).await?;
        let kept = conversion::to_storage(server, call.kind, &new).await?;
        match commit(server, call, options, &current, &old, (new, kept)).await {
            Ok(reply) => {
                taken.keep();
                return Ok(reply);
            }
            Err(CommitError::Conflict(found)) if !insists => newer = found,
            Err(error) => return Err(write::commit_error(call, name, error)),
        }
    }
    Err(Status::conflict(call.kind.plural, call.kind.group, name, write::MODIFIED))
}

/// The new object, and whether the client insists on the version it changed.
fn propose(call: &Call, source: &Source<'_>, old: &Value) -> Result<(Value, bool), Status> {
    match source {
        Source::Sent(sent) => {
            let mut new = (*sent).clone();
            let insists = object::revision(&new) != 0;
            if !insists && !traits::updates_unconditionally(call.kind) {
                let path = Path::new("metadata").child("resourceVersion");
                let error = field::Error::invalid(&path, 0, "must be specified for an update");
                return Err(Status::invalid(call.kind.plural, call.kind.group, &call.info.name, &[error]));
            }
            fill_version(&mut new, old);
            Ok((new, insists))
        }
        Source::Made(make) | Source::Applied(make) => {
            let mut new = make(old)?;
            fill_version(&mut new, old);
            let insists = object::meta(&new, "resourceVersion") != object::meta(old, "resourceVersion");
            Ok((new, insists))
        }
    }
}

fn fill_version(new: &mut Value, old: &Value) {
    if object::revision(new) == 0 {
        metadata_mut(new).insert("resourceVersion".to_owned(), old["metadata"]["resourceVersion"].clone());
    }
}

fn check_version(call: &Call, new: &Value, old: &Value, insists: bool) -> Result<(), Status> {
    let conflict = |why: &str| Err(Status::conflict(call.kind.plural, call.kind.group, &call.info.name, why));
    let (sent, had) = (object::uid(new), object::uid(old));
    if !sent.is_empty() && sent != had {
        return conflict(&format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {had}"));
    }
    if insists && object::meta(new, "resourceVersion") != object::meta(old, "resourceVersion") {
        return conflict(write::MODIFIED);
    }
    Ok(())
}

/// Rules, admission, checks and allocations, in upstream's order.
async fn prepare(
    server: &Arc<ApiServer>,
    call: &Call,
    options: &WriteOptions,
    source: &Source<'_>,
    new: &mut Value,
    old: &Value,
) -> Result<services::Taken, Status> {
    let subresource = call.info.subresource.as_str();
    let admission = Attributes {
        operation: Operation::Update,
        kind: call.kind,
        subresource,
        namespace: &call.info.namespace,
        name: &call.info.name,
        user: &call.user,
        old: Some(old),
        warnings: &call.warnings,
        dry_run: options.dry_run,
    };
    admission::mutate(server, &admission, new).await?;
    rules::keep_old(new, old, call.kind, subresource);
    services::keep_allocated(call.kind, new, old);
    write::check_changed(call, new, old)?;
    write::canonicalize(call, new)?;
    rules::count_generation(new, old, call.kind);
    if source.manages() {
        write::manage(call, Some(old), new, &options.field_manager);
    }
    admission::validate(server, &admission, new).await?;
    services::allocate(server, call.kind, new, Some(old), options.dry_run)
}

/// `kept`: the new object as it is stored, where that is converted.
async fn commit(
    server: &ApiServer,
    call: &Call,
    options: &WriteOptions,
    current: &Arc<Stored>,
    old: &Value,
    (new, kept): (Value, Option<Value>),
) -> Result<Reply, CommitError> {
    let deletes = rules::deletes(&new, old, call.kind);
    if !deletes && rules::is_same(&new, old) {
        return Ok(Reply::Stored { code: 200, object: current.clone() });
    }
    if options.dry_run {
        return Ok(Reply::Value { code: 200, value: new });
    }
    let Ok(cache) = server.cache(call.kind) else { return Err(CommitError::Gone) };
    let (namespace, name) = (call.namespace(), call.info.name.as_str());
    if deletes {
        let gone = cache.delete(namespace, name, current.revision).await?;
        services::release(server, call.kind, &gone);
        return Ok(Reply::Value { code: 200, value: new });
    }
    let Ok(bytes) = write::bytes_of(call, kept.unwrap_or(new)) else { return Err(CommitError::Gone) };
    let stored = cache.update(namespace, name, current.revision, bytes).await?;
    Ok(Reply::Stored { code: 200, object: stored })
}
