//! What may change in a pod.
//!
//! Must not know: who changes it.

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use super::super::shown;
use crate::field::{Error, Errors, Path};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the main resource; subresources restore what they may not change before this is asked.
pub(crate) fn pod_update(new: &core::Pod, old: &core::Pod, errors: &mut Errors) {
    let (Some(new), Some(old), path) = (&new.spec, &old.spec, Path::new("spec")) else { return };
    if new == old {
        return;
    }
    let count = |list: &Option<Vec<core::Container>>| list.as_ref().map_or(0, Vec::len);
    let pairs = [
        ("containers", new.containers.len() != old.containers.len()),
        ("initContainers", count(&new.init_containers) != count(&old.init_containers)),
    ];
    if let Some((field, _)) = pairs.into_iter().find(|(_, differs)| *differs) {
        errors.push(Error::forbidden(&path.child(field), "pod updates may not add or remove containers"));
        return;
    }
    deadline(new, old, &path.child("activeDeadlineSeconds"), errors);
    only_added_tolerations(new, old, &path.child("tolerations"), errors);
    only_removed_gates(new, old, &path.child("schedulingGates"), errors);
    let allowed = with_allowed_changes_undone(new, old);
    if allowed != *old {
        let differences = differences(&shown(old), &shown(&allowed));
        let detail = format!("pod updates may not change fields other than {UPDATABLE}\n{differences}");
        errors.push(Error::forbidden(&path, detail));
    }
}

fn deadline(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(wanted), Some(had)) if wanted > had => {
            errors.push(Error::invalid(path, wanted, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            errors.push(Error::invalid(path, Value::Null, "must not update from a positive integer to nil value"));
        }
        _ => {}
    }
}

fn only_added_tolerations(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let same = |a: &core::Toleration, b: &core::Toleration| {
        core::Toleration { toleration_seconds: b.toleration_seconds, ..a.clone() } == *b
    };
    let wanted = new.tolerations.as_deref().unwrap_or_default();
    if old.tolerations.iter().flatten().any(|had| !wanted.iter().any(|new| same(had, new))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(path, detail));
    }
}

fn only_removed_gates(new: &core::PodSpec, old: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let had: Vec<&str> = old.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str()).collect();
    for (i, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !had.contains(&gate.name.as_str()) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(Error::forbidden(&path.index(i).child("name"), detail));
        }
    }
}

fn with_allowed_changes_undone(new: &core::PodSpec, old: &core::PodSpec) -> core::PodSpec {
    let mut spec = new.clone();
    for (container, had) in spec.containers.iter_mut().zip(&old.containers) {
        container.image.clone_from(&had.image);
    }
    let had = old.init_containers.as_deref().unwrap_or_default();
    for (container, had) in spec.init_containers.as_deref_mut().unwrap_or_default().iter_mut().zip(had) {
        container.image.clone_from(&had.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    let grace = (old.termination_grace_period_seconds, spec.termination_grace_period_seconds);
    if matches!(grace, (Some(..0), Some(1))) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        // a pod that waits at a gate may still be steered
        spec.node_selector.clone_from(&old.node_selector);
        spec.affinity.clone_from(&old.affinity);
    }
    spec
}

/// `-` what was, `+` what came, a line each.
fn differences(old: &Value, new: &Value) -> String {
    let mut lines = Vec::new();
    collect("", old, new, &mut lines);
    lines.join("\n")
}

fn collect(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let dot = if path.is_empty() { "" } else { "." };
                collect(&format!("{path}{dot}{key}"), &old[key.as_str()], &new[key.as_str()], lines);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (i, (old, new)) in before.iter().zip(after).enumerate() {
                collect(&format!("{path}[{i}]"), old, new, lines);
            }
        }
        _ => {
            let sides = [("-", old), ("+", new)].into_iter().filter(|(_, value)| !value.is_null());
            lines.extend(sides.map(|(sign, value)| format!("{sign} {path}: {value}")));
        }
    }
}
