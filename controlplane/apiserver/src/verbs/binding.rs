//! `pods/binding` and `bindings`: a pod gets its node, once.
//!
//! Must not know: how the node was chosen.

use std::sync::Arc;

use jiff::Timestamp;
use pintle_api::field::{self, Path};
use pintle_api::kinds;
use pintle_api::object::{self, metadata_mut};
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::write;
use crate::body::RequestBody;
use crate::cache::CommitError;
use crate::call::{Call, Reply};
use crate::negotiate;
use crate::request::{WriteOptions, decode};
use crate::rules::delete::rfc3339;
use crate::server::ApiServer;

/// How often the pod is bound on top of somebody else's change of it.
const ATTEMPTS: usize = 10;

pub async fn bind(server: &Arc<ApiServer>, call: &Call, body: RequestBody) -> Result<Reply, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let bytes = decode::read(body).await?;
    let mut binding = decode::value(&bytes, negotiate::content(&call.headers)?, "Binding")?;
    decode::check_kind(&mut binding, "", "v1", "Binding")?;
    let name = match call.info.name.as_str() {
        "" => object::name(&binding).to_owned(),
        name => name.to_owned(),
    };
    check(&binding, &name)?;
    super::admit_subresource(server, call, &name, &mut binding, options.dry_run).await?;
    let pods = kinds::find("", "v1", "pods").ok_or_else(|| Status::internal("no pods"))?;
    let cache = server.cache(pods)?;
    let pod_call = Call::internal(pods, "update", &call.info.namespace, &name);
    for _ in 0..ATTEMPTS {
        let current = cache.get(&call.info.namespace, &name).ok_or_else(|| Status::not_found("pods", "", &name))?;
        let pod = assigned(current.value(), &binding, &name, Timestamp::now())?;
        if options.dry_run {
            return Ok(bound());
        }
        let bytes = write::bytes(&pod_call, &pod)?;
        match cache.update(&call.info.namespace, &name, current.revision, bytes).await {
            Ok(_) => return Ok(bound()),
            Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(write::commit_error(&pod_call, &name, error)),
        }
    }
    Err(Status::conflict("pods/binding", "", &name, write::MODIFIED))
}

fn bound() -> Reply {
    Reply::Value { code: 201, value: super::success(201) }
}

fn check(binding: &Value, name: &str) -> Result<(), Status> {
    let path = Path::new("target");
    let mut errors = field::Errors::new();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(field::Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding["target"]["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(field::Error::required(&path.child("name"), ""));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("Binding", "", name, &errors)) }
}

/// The pod on its node; refused where it has one, is going, or is held back.
fn assigned(mut pod: Value, binding: &Value, name: &str, now: Timestamp) -> Result<Value, Status> {
    let refuse = |why: String| Err(Status::conflict("pods/binding", "", name, &why));
    let wanted = object::uid(binding);
    if !wanted.is_empty() && wanted != object::uid(&pod) {
        let found = object::uid(&pod);
        return refuse(format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        object::map_mut(metadata_as_value(&mut pod), "annotations").insert(key.clone(), value.clone());
    }
    schedule(&mut pod, now);
    Ok(pod)
}

fn metadata_as_value(pod: &mut Value) -> &mut Value {
    metadata_mut(pod);
    &mut pod["metadata"]
}

fn schedule(pod: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": rfc3339(now),
    });
    match &mut pod["status"]["conditions"] {
        Value::Array(all) => {
            all.retain(|c| c["type"] != "PodScheduled");
            all.push(condition);
        }
        other => *other = json!([condition]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Value {
        json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}})
    }

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending"}});
        let bound = assigned(pod, &binding(), "p", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n");
        assert_eq!(bound["status"]["conditions"][0]["status"], "True");
        let again = assigned(bound, &binding(), "p", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
        );
    }
}
