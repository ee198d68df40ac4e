//! `delete` and `deletecollection`.
//!
//! Must not know: any kind.

use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use pintle_api::object;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::list::{Selection, select};
use super::write;
use crate::admission::{self, Attributes, Operation};
use crate::body::RequestBody;
use crate::cache::{CommitError, Stored};
use crate::call::{Call, List, Reply};
use crate::negotiate;
use crate::request::{DeleteOptions, ListOptions, decode};
use crate::rules::delete::{Plan, plan};
use crate::rules::traits;
use crate::rules::write::is_namespace;
use crate::server::ApiServer;
use crate::services;

/// How often a deletion is tried on top of somebody else's change.
const ATTEMPTS: usize = 10;

/// How many objects of a collection are deleted side by side.
const SIDE_BY_SIDE: usize = 16;

pub async fn delete(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let options = read_options(call, body).await?;
    warn_orphans(call, &options);
    delete_object(server, call, call.namespace(), &call.info.name, &options).await
}

/// The options of the body; of the query where there is no body.
async fn read_options(call: &Call, body: RequestBody) -> Result<DeleteOptions, Status> {
    let bytes = decode::read(body).await?;
    if bytes.is_empty() {
        return DeleteOptions::from_query(&call.query);
    }
    let value = decode::value(&bytes, negotiate::content(&call.headers)?, "DeleteOptions")?;
    let kind = value["kind"].as_str().unwrap_or("DeleteOptions");
    if kind != "DeleteOptions" {
        return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
    }
    DeleteOptions::from_value(&value)
}

fn warn_orphans(call: &Call, options: &DeleteOptions) {
    let silent = options.propagation_policy.is_none() && options.orphan_dependents.is_none();
    if silent && (call.kind.group, call.kind.plural) == ("batch", "jobs") {
        call.warnings.add(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
}

/// Deletes one object as far as its grace and finalizers allow.
pub(crate) async fn delete_object(
    server: &Arc<ApiServer>,
    call: &Call,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Reply, Status> {
    let cache = server.cache(call.kind)?;
    let (mut marked, mut newer) = (None, None);
    for _ in 0..ATTEMPTS {
        // what the store has said already the cache may not have heard of yet
        let current = match (newer.take().or_else(|| cache.get(namespace, name)), &marked) {
            (Some(current), None) => current,
            (Some(current), Some(marked)) if object::uid(&current.value()) == object::uid(marked) => current,
            // who saw the mark, a kubelet, was faster: it is deleted as it was asked
            (_, Some(marked)) => return Ok(gone(call, marked.clone())),
            (None, None) => return Err(call.not_found(name)),
        };
        let old = current.value();
        admit(server, call, namespace, name, &old, options.dry_run).await?;
        let plan = plan(&old, call.kind, options, Timestamp::now())?;
        if options.dry_run {
            return Ok(dry_run(call, plan, old));
        }
        match carry_out(server, call, &current, plan, &mut marked).await {
            Ok(reply) => return Ok(reply),
            Err(CommitError::Conflict(found)) if options.resource_version.is_none() || marked.is_some() => {
                newer = found
            }
            Err(CommitError::Gone) if marked.is_some() => return Ok(gone(call, marked.unwrap_or(old))),
            Err(error) => return Err(write::commit_error(call, name, error)),
        }
    }
    Err(Status::conflict(call.kind.plural, call.kind.group, name, write::MODIFIED))
}

async fn admit(
    server: &Arc<ApiServer>,
    call: &Call,
    namespace: &str,
    name: &str,
    old: &Value,
    dry_run: bool,
) -> Result<(), Status> {
    let attributes = Attributes {
        operation: Operation::Delete,
        kind: call.kind,
        subresource: "",
        // a namespace is in itself, as admission sees it
        namespace: if is_namespace(call.kind) { name } else { namespace },
        name,
        user: &call.user,
        old: Some(old),
        warnings: &call.warnings,
        dry_run,
    };
    admission::validate(server, &attributes, &Value::Null).await
}

fn dry_run(call: &Call, plan: Plan, old: Value) -> Reply {
    match plan {
        Plan::Mark(marked) => Reply::Value { code: 200, value: marked },
        Plan::Now | Plan::Already | Plan::MarkThenNow(_) => gone(call, old),
    }
}

/// `marked` becomes the object as it was marked, where it is to go at once.
async fn carry_out(
    server: &ApiServer,
    call: &Call,
    current: &Arc<Stored>,
    plan: Plan,
    marked: &mut Option<Value>,
) -> Result<Reply, CommitError> {
    let Ok(cache) = server.cache(call.kind) else { return Err(CommitError::Gone) };
    let (namespace, name) = (current.namespace.as_ref(), current.name.as_ref());
    let keep = |value: &Value| write::bytes(call, value).map_err(|_| CommitError::Gone);
    match plan {
        Plan::Already => Ok(Reply::Stored { code: 200, object: current.clone() }),
        Plan::Mark(value) => {
            let stored = cache.update(namespace, name, current.revision, keep(&value)?).await?;
            Ok(Reply::Stored { code: 200, object: stored })
        }
        Plan::MarkThenNow(value) => {
            let stored = cache.update(namespace, name, current.revision, keep(&value)?).await?;
            *marked = Some(stored.value());
            finish(server, call, &stored).await
        }
        Plan::Now => finish(server, call, current).await,
    }
}

async fn finish(server: &ApiServer, call: &Call, current: &Arc<Stored>) -> Result<Reply, CommitError> {
    let Ok(cache) = server.cache(call.kind) else { return Err(CommitError::Gone) };
    let deleted = cache.delete(&current.namespace, &current.name, current.revision).await?;
    services::release(server, call.kind, &deleted);
    Ok(gone(call, deleted.value()))
}

/// What is answered for an object that is gone: itself, or a Status, as upstream has it for its kind.
fn gone(call: &Call, object: Value) -> Reply {
    if traits::delete_returns_object(call.kind) {
        return Reply::Value { code: 200, value: object };
    }
    let mut details = json!({ "name": object::name(&object), "kind": call.kind.plural, "uid": object::uid(&object) });
    if !call.kind.group.is_empty() {
        details["group"] = call.kind.group.into();
    }
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    Reply::Value { code: 200, value }
}

pub async fn delete_collection(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let list = ListOptions::parse(&call.query, false)?;
    let options = read_options(call, body).await?;
    let selection = Selection::new(call, &list)?;
    let found = select(server, call, &list, &selection).await?;
    let mut failed = None;
    for some in found.items.chunks(SIDE_BY_SIDE) {
        let mut deletions = FuturesUnordered::new();
        for item in some {
            deletions.push(delete_object(server, call, &item.namespace, &item.name, &options).boxed());
        }
        while let Some(done) = deletions.next().await {
            match done {
                Err(error) if error.code != 404 => failed = failed.or(Some(error)),
                _ => {}
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(Reply::List(List { continue_token: None, remaining: None, ..found })),
    }
}
