//! A pod's priority is that of its class (`plugin/pkg/admission/priority`).
//!
//! Must not know: what priorities are for.

use std::sync::Arc;

use pintle_api::object;
use pintle_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::server::ApiServer;

pub fn admit(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.operation == Operation::Update {
        keep(pod, attributes.old);
        return Ok(());
    }
    let class = class_of(server, attributes, pod)?;
    let priority = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    if let Some(said) = pod["spec"]["priority"].as_i64().filter(|said| *said != priority) {
        return Err(attributes.forbidden(&format!(
            "the integer value of priority ({said}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        )));
    }
    pod["spec"]["priority"] = priority.into();
    if let Some(class) = &class {
        pod["spec"]["priorityClassName"] = object::name(class).into();
    }
    let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
    if let Some(said) = pod["spec"]["preemptionPolicy"].as_str().filter(|said| *said != policy) {
        return Err(attributes.forbidden(&format!(
            "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )));
    }
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}

fn keep(pod: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
            pod["spec"][field] = old["spec"][field].clone();
        }
    }
}

/// The class the pod names; the default one, where it names none and there is one.
fn class_of(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let classes = server.cache_of("scheduling.k8s.io", "priorityclasses")?;
    match pod["spec"]["priorityClassName"].as_str().filter(|n| !n.is_empty()) {
        Some(name) => match classes.get("", name) {
            Some(found) => Ok(Some(found.value())),
            None => Err(attributes.forbidden(&format!("no PriorityClass with name {name} was found"))),
        },
        None => {
            let all = classes.list(None).items.into_iter().map(|c| c.value());
            Ok(all.filter(|c| c["globalDefault"] == true).min_by_key(|c| c["value"].as_i64().unwrap_or(0)))
        }
    }
}

/// There is one default class.
pub fn check_class(server: &Arc<ApiServer>, attributes: &Attributes<'_>, class: &Value) -> Result<(), Status> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    let classes = server.cache_of("scheduling.k8s.io", "priorityclasses")?;
    let other = classes.list(None).items.into_iter().map(|c| c.value());
    let other = other.into_iter().find(|c| c["globalDefault"] == true && object::name(c) != object::name(class));
    match other {
        None => Ok(()),
        Some(other) => Err(attributes.forbidden(&format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            object::name(&other)
        ))),
    }
}
