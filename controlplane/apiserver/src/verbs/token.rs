//! `serviceaccounts/token`: a bound token for a service account (upstream's TokenRequest).
//!
//! Must not know: how tokens are signed.

use std::sync::Arc;

use jiff::Timestamp;
use pintle_api::field::{self, Path};
use pintle_api::object;
use pintle_api::status::Status;
use pintle_pki::tokens::Reference;
use serde_json::{Value, json};

use crate::admission::node_restriction;
use crate::auth::tokens::{Asked, MIN_SECONDS};
use crate::body::RequestBody;
use crate::call::{Call, Reply};
use crate::negotiate;
use crate::request::decode;
use crate::rules::delete::rfc3339;
use crate::server::ApiServer;

const DEFAULT_SECONDS: i64 = 3600;
const MAX_SECONDS: i64 = 1 << 32;

pub async fn issue(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let bytes = decode::read(body).await?;
    let mut request = decode::value(&bytes, negotiate::content(&call.headers)?, "TokenRequest")?;
    decode::check_kind(&mut request, "authentication.k8s.io", "v1", "TokenRequest")?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let account = reference(server, "serviceaccounts", namespace, name)?;
    check_node(server, call, &request["spec"]["boundObjectRef"])?;
    let seconds = seconds(&request["spec"], name)?;
    let bound = bound(server, call, &request["spec"]["boundObjectRef"])?;
    let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
    let asked = Asked {
        namespace,
        service_account: account,
        pod: bound.pod,
        secret: bound.secret,
        node: bound.node,
        audiences: audiences.filter_map(Value::as_str).map(str::to_owned).collect(),
        seconds,
        now: Timestamp::now().as_second(),
    };
    let (token, ends) = server.authenticator.tokens.issue(asked).map_err(Status::internal)?;
    let ends = Timestamp::from_second(ends).map_err(Status::internal)?;
    request["metadata"] =
        json!({ "name": name, "namespace": namespace, "creationTimestamp": rfc3339(Timestamp::now()) });
    request["spec"]["expirationSeconds"] = seconds.into();
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!(server.authenticator.tokens.audiences);
    }
    request["status"] = json!({ "token": token, "expirationTimestamp": rfc3339(ends) });
    Ok(Reply::Value { code: 201, value: request })
}

/// A node takes tokens for the pods on it only.
fn check_node(server: &ApiServer, call: &Call, bound: &Value) -> Result<(), Status> {
    let Some(node) = call.user.node_name() else { return Ok(()) };
    let pod = server.cache_of("", "pods")?.get(&call.info.namespace, bound["name"].as_str().unwrap_or_default());
    let pod = pod.map(|pod| pod.value());
    let allowed = node_restriction::admit_token(node, bound, pod.as_ref());
    allowed.map_err(|why| Status::forbidden("serviceaccounts", "", &call.info.name, &why))
}

fn seconds(spec: &Value, name: &str) -> Result<i64, Status> {
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let path = Path::new("spec").child("expirationSeconds");
    let detail = match seconds {
        ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
        seconds if seconds > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(seconds),
    };
    let errors = [field::Error::invalid(&path, seconds, detail)];
    Err(Status::invalid("TokenRequest", "authentication.k8s.io", name, &errors))
}

#[derive(Default)]
struct BoundTo {
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

/// What the token is to be bound to; for a pod also the node it is on.
fn bound(server: &ApiServer, call: &Call, asked: &Value) -> Result<BoundTo, Status> {
    let Some(kind) = asked["kind"].as_str() else { return Ok(BoundTo::default()) };
    let (namespace, name) = (&call.info.namespace, asked["name"].as_str().unwrap_or_default());
    let plural = match kind {
        "Pod" => "pods",
        "Secret" => "secrets",
        "Node" => "nodes",
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to object of type {kind:?}",
                call.info.name
            )));
        }
    };
    let found = reference(server, plural, if kind == "Node" { "" } else { namespace }, name)?;
    if let Some(uid) = asked["uid"].as_str().filter(|uid| !uid.is_empty() && **uid != found.uid) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(plural, "", name, &why));
    }
    match kind {
        "Pod" => bound_pod(server, call, found),
        "Secret" => Ok(BoundTo { secret: Some(found), ..BoundTo::default() }),
        _ => Ok(BoundTo { node: Some(found), ..BoundTo::default() }),
    }
}

fn bound_pod(server: &ApiServer, call: &Call, pod: Reference) -> Result<BoundTo, Status> {
    let stored = server.cache_of("", "pods")?.get(&call.info.namespace, &pod.name);
    let spec = stored.map(|stored| stored.value()["spec"].take()).unwrap_or_default();
    let runs_as = spec["serviceAccountName"].as_str().unwrap_or_default();
    if runs_as != call.info.name {
        let why = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.info.name
        );
        return Err(Status::bad_request(why));
    }
    let node = spec["nodeName"].as_str().filter(|name| !name.is_empty());
    let node = node.and_then(|name| reference(server, "nodes", "", name).ok());
    Ok(BoundTo { pod: Some(pod), node, secret: None })
}

fn reference(server: &ApiServer, plural: &str, namespace: &str, name: &str) -> Result<Reference, Status> {
    let stored = server.cache_of("", plural)?.get(namespace, name);
    let stored = stored.ok_or_else(|| Status::not_found(plural, "", name))?;
    Ok(Reference { name: name.to_owned(), uid: object::uid(&stored.value()).to_owned() })
}
