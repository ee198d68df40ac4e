//! A pod of a RuntimeClass has its overhead, and runs where the class runs (`plugin/pkg/admission/runtimeclass`).
//!
//! Must not know: runtimes.

use std::sync::Arc;

use pintle_api::object::map_mut;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::server::ApiServer;

const NO_MATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    let class = class_of(server, attributes, pod)?;
    let applied = class.map_or(Ok(()), |class| apply(&class, &mut pod["spec"]));
    applied.map_err(|why| attributes.forbidden(&why))
}

/// What other plugins may have done to the overhead since.
pub fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    let class = class_of(server, attributes, pod)?;
    let overhead = class.as_ref().map_or(&Value::Null, |class| &class["overhead"]["podFixed"]);
    match (overhead, &pod["spec"]["overhead"]) {
        (Value::Null, Value::Null) => Ok(()),
        (Value::Null, _) => {
            Err(attributes
                .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
        }
        (wanted, has) if wanted == has => Ok(()),
        _ => Err(attributes.forbidden(NO_MATCH)),
    }
}

fn class_of(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(None) };
    match server.cache_of("node.k8s.io", "runtimeclasses")?.get("", name) {
        Some(found) => Ok(Some(found.value())),
        None => Err(attributes.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

fn apply(class: &Value, spec: &mut Value) -> Result<(), String> {
    let overhead = &class["overhead"]["podFixed"];
    if !overhead.is_null() {
        let said = spec["overhead"].as_object().is_some_and(|said| !said.is_empty());
        if said && spec["overhead"] != *overhead {
            return Err(NO_MATCH.to_owned());
        }
        spec["overhead"] = overhead.clone();
    }
    for (key, value) in class["scheduling"]["nodeSelector"].as_object().into_iter().flatten() {
        let said = spec["nodeSelector"][key].as_str();
        if let Some(said) = said.filter(|said| Some(*said) != value.as_str()) {
            let wanted = value.as_str().unwrap_or_default();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {said}"
            ));
        }
        map_mut(spec, "nodeSelector").insert(key.clone(), value.clone());
    }
    let more = class["scheduling"]["tolerations"].as_array().into_iter().flatten();
    for toleration in more {
        match &mut spec["tolerations"] {
            Value::Array(all) if all.contains(toleration) => {}
            Value::Array(all) => all.push(toleration.clone()),
            other => *other = json!([toleration]),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_its_classes_overhead_and_place() {
        let class = json!({ "overhead": { "podFixed": { "cpu": "10m" } },
            "scheduling": { "nodeSelector": { "kvm": "yes" }, "tolerations": [{ "key": "kvm", "operator": "Exists" }] } });
        let mut spec = json!({ "nodeSelector": { "a": "b" } });
        apply(&class, &mut spec).unwrap();
        assert_eq!(
            spec,
            json!({ "nodeSelector": { "a": "b", "kvm": "yes" }, "overhead": { "cpu": "10m" },
                "tolerations": [{ "key": "kvm", "operator": "Exists" }] })
        );
        assert_eq!(apply(&class, &mut json!({ "overhead": { "cpu": "1" } })), Err(NO_MATCH.to_owned()));
        assert_eq!(
            apply(&class, &mut json!({ "nodeSelector": { "kvm": "no" } })).unwrap_err(),
            "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no"
        );
    }
}
