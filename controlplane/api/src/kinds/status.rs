//! Who may write what of an object: the status through `status` only, the rest through the main resource only;
//! and which changes make a new generation.
//!
//! Must not know: any kind's fields beside `spec` and `status`.

use serde_json::{Map, Value};

use super::Kind;
use crate::object::metadata_mut;

/// What becomes of the status that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusRule {
    /// The kind has none.
    None,
    /// Dropped on create; afterwards only the `status` subresource writes it.
    Cleared,
    /// Taken on create (nodes); afterwards only the `status` subresource writes it.
    KeptOnCreate,
}

pub(super) fn create(object: &mut Value, rule: StatusRule) {
    if rule == StatusRule::Cleared
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
}

pub(super) fn update(new: &mut Value, old: &Value, subresource: &str, rule: StatusRule) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else { return };
    match (rule, subresource) {
        (StatusRule::None, _) => {}
        (_, "status") => keep_all_but_status(new, old),
        // approving a certificate writes its conditions; the kind's own rules look at it
        (_, "approval") => {}
        _ => restore(new, old, "status"),
    }
}

/// Metadata may change through `status` too, as upstream lets it.
fn keep_all_but_status(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let mine = |field: &str| matches!(field, "status" | "metadata" | "apiVersion" | "kind");
    new.retain(|field, _| mine(field));
    for (field, value) in old.iter().filter(|(field, _)| !mine(field)) {
        new.insert(field.clone(), value.clone());
    }
}

fn restore(new: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    match old.get(field) {
        Some(value) => new.insert(field.to_owned(), value.clone()),
        None => new.remove(field),
    };
}

/// The fields, beside `spec`, whose change makes a new generation; `None` for kinds without one.
fn watched_fields(kind: &Kind) -> Option<&'static [&'static str]> {
    let spec: &[&str] = &["spec"];
    Some(match (kind.group, kind.kind) {
        ("", "Pod" | "ReplicationController") => spec,
        ("", "PodTemplate") => &["template"],
        ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet") => spec,
        ("batch", "Job" | "CronJob") => spec,
        ("networking.k8s.io", "Ingress" | "IngressClass" | "NetworkPolicy") => spec,
        ("policy", "PodDisruptionBudget") => spec,
        ("resource.k8s.io", "DeviceClass" | "ResourceSlice") => spec,
        ("flowcontrol.apiserver.k8s.io", _) => spec,
        ("apiextensions.k8s.io", _) => spec,
        ("scheduling.k8s.io", "PriorityClass") => &[],
        ("discovery.k8s.io", "EndpointSlice") => &["addressType", "endpoints", "ports"],
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            &["webhooks"]
        }
        ("admissionregistration.k8s.io", _) => spec,
        _ => return None,
    })
}

/// Whether objects of a kind count their generations: from 1, set on create.
pub fn has_generation(kind: &Kind) -> bool {
    watched_fields(kind).is_some()
}

/// Whether the change from `old` to `new`, both canonical, through the main resource, makes a new generation.
pub fn bumps_generation(kind: &Kind, old: &Value, new: &Value) -> bool {
    let Some(fields) = watched_fields(kind) else { return false };
    let metadata: &[&str] = match kind.kind {
        // a rollback's and the user's notes count as desired state
        "Deployment" => &["annotations"],
        "EndpointSlice" => &["labels"],
        _ => &[],
    };
    fields.iter().any(|field| old[field] != new[field])
        || metadata.iter().any(|field| old["metadata"][field] != new["metadata"][field])
}

/// Sets `metadata.generation` of an object that is about to be written: 1 on create, one more where the change
/// calls for it, else as it was. `old` is `None` on create.
pub fn set_generation(kind: &Kind, old: Option<&Value>, new: &mut Value) {
    let before = old.and_then(|old| old["metadata"]["generation"].as_i64());
    let generation = match old {
        None => has_generation(kind).then_some(1),
        Some(old) if bumps_generation(kind, old, new) => Some(before.unwrap_or(0) + 1),
        Some(_) => before,
    };
    let metadata = metadata_mut(new);
    match generation {
        Some(generation) => metadata.insert("generation".to_owned(), generation.into()),
        None => metadata.remove("generation"),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    #[test]
    fn the_main_resource_keeps_the_status_and_status_keeps_the_rest() {
        let old = json!({ "metadata": {}, "spec": { "a": 1 }, "status": { "b": 1 } });
        let changed = json!({ "metadata": { "labels": {} }, "spec": { "a": 2 }, "status": { "b": 2 } });
        let mut main = changed.clone();
        update(&mut main, &old, "", StatusRule::Cleared);
        assert_eq!((&main["spec"]["a"], &main["status"]["b"]), (&json!(2), &json!(1)));
        let mut status = changed;
        update(&mut status, &old, "status", StatusRule::Cleared);
        assert_eq!((&status["spec"]["a"], &status["status"]["b"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn generations_count_changes_of_the_spec() {
        let kind = kinds::find("apps", "v1", "deployments").expect("deployments");
        let mut object = json!({ "metadata": {}, "spec": { "replicas": 1 } });
        set_generation(kind, None, &mut object);
        assert_eq!(object["metadata"]["generation"], 1);
        let mut labelled = object.clone();
        labelled["metadata"]["labels"] = json!({ "a": "b" });
        set_generation(kind, Some(&object), &mut labelled);
        assert_eq!(labelled["metadata"]["generation"], 1);
        let mut scaled = object.clone();
        scaled["spec"]["replicas"] = json!(2);
        set_generation(kind, Some(&object), &mut scaled);
        assert_eq!(scaled["metadata"]["generation"], 2);
    }
}
