//! The verbs, generic over every kind; what is special about a kind is in the kind table.
//!
//! Must not know: HTTP beyond the parts of a request.

mod binding;
mod change;
mod create;
mod delete;
mod eviction;
mod list;
mod patch;
pub(crate) mod reviews;
pub(crate) mod scale;
mod token;
mod watch;
pub(crate) mod write;

use std::sync::Arc;

use pintle_api::status::Status;
use pintle_api::strict;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation, webhooks};
use crate::body::RequestBody;
use crate::call::{Call, Reply};
use crate::conversion;
use crate::negotiate::{self, Format};
use crate::request::{FieldValidation, decode};
use crate::server::ApiServer;

pub(crate) use change::{Source, change};
pub(crate) use create::create_object;
pub(crate) use delete::delete_object;

/// Does what `call` asks, or says why not.
pub async fn carry_out(server: &Arc<ApiServer>, call: &Arc<Call>, body: RequestBody) -> Result<Reply, Status> {
    check_scope(call)?;
    check_served(call)?;
    let reply = answer(server, call, body).await?;
    match &reply {
        Reply::Stored { object, .. } => conversion::prepare(server, call.kind, std::iter::once(object)).await?,
        Reply::List(found) => conversion::prepare(server, call.kind, found.items.iter()).await?,
        Reply::Value { .. } | Reply::Http(_) => {}
    }
    Ok(reply)
}

async fn answer(server: &Arc<ApiServer>, call: &Arc<Call>, body: RequestBody) -> Result<Reply, Status> {
    match (call.info.verb.as_str(), call.info.subresource.as_str()) {
        (_, "scale") => scale::carry_out(server, call, body).await,
        ("create", "binding") => binding::bind(server, call, body).await,
        ("create", "") if call.kind.kind == "Binding" => binding::bind(server, call, body).await,
        ("create", "token") => token::issue(server, call, body).await,
        ("create", "") if reviews::is_review(call.kind.kind) => reviews::carry_out(server, call, body).await,
        ("create", "eviction") => eviction::evict(server, call, body).await,
        ("get", _) => list::get(server, call).await,
        ("list", "") => list::list(server, call).await,
        ("watch", "") => watch::watch(server, call).await,
        ("create", "") => create::create(server, call, body).await,
        ("update", _) => change::update(server, call, body).await,
        ("patch", _) => patch::patch(server, call, body).await,
        ("delete", "") => delete::delete(server, call, body).await,
        ("deletecollection", "") => delete::delete_collection(server, call, body).await,
        _ => Err(not_allowed()),
    }
}

/// Has webhooks admit what is created below an object and stored nowhere.
async fn admit_subresource(
    server: &Arc<ApiServer>,
    call: &Call,
    name: &str,
    object: &mut Value,
    dry_run: bool,
) -> Result<(), Status> {
    let attributes = Attributes {
        operation: Operation::Create,
        kind: call.kind,
        subresource: &call.info.subresource,
        namespace: &call.info.namespace,
        name,
        user: &call.user,
        old: None,
        warnings: &call.warnings,
        dry_run,
    };
    webhooks::admit(server, &attributes, object).await
}

/// A Status that says it worked.
fn success(code: u16) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code })
}

fn not_allowed() -> Status {
    Status::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

fn not_found() -> Status {
    Status::new(404, "NotFound", "the server could not find the requested resource")
}

/// Namespaced objects live in a namespace: only reading goes across all of them.
fn check_scope(call: &Call) -> Result<(), Status> {
    let reads_all = matches!(call.info.verb.as_str(), "list" | "watch");
    let namespaced_path = !call.info.namespace.is_empty() && call.info.resource != "namespaces";
    match (call.kind.namespaced, namespaced_path) {
        (true, false) if !reads_all => Err(not_found()),
        (false, true) => Err(not_found()),
        _ => Ok(()),
    }
}

fn check_served(call: &Call) -> Result<(), Status> {
    let verb = call.info.verb.as_str();
    let verbs = match call.info.subresource.as_str() {
        "" => call.kind.verbs,
        name => call.kind.subresource(name).ok_or_else(not_found)?.verbs,
    };
    if verbs.contains(&verb) { Ok(()) } else { Err(not_allowed()) }
}

/// The body as an object of the request's kind, strictly read as `validation` asks.
async fn read_object(call: &Call, body: RequestBody, validation: FieldValidation) -> Result<Value, Status> {
    let format = negotiate::content(&call.headers)?;
    let bytes = decode::read(body).await?;
    let mut object = decode::object(&bytes, format, call.kind)?;
    if validation != FieldValidation::Ignore
        && let Some(ty) = write::type_of(call)
    {
        let unknown = match format {
            Format::Json => strict::check(&bytes, ty),
            _ => strict::unknown(&object, ty),
        };
        write::check_fields(call, &unknown, validation)?;
    } else if validation != FieldValidation::Ignore && call.kind.custom.is_some() {
        let mut unknown = write::unknown(call, &object);
        if format == Format::Json {
            unknown.extend(strict::duplicates(&bytes));
        }
        write::check_fields(call, &unknown, validation)?;
    }
    write::canonicalize(call, &mut object)?;
    Ok(object)
}
