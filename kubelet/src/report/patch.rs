//! The strategic merge patch from one status to another: only what differs, only conditions the kubelet owns.
//!
//! Must not know: how a patch is sent.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use serde_json::{Map, Value, json};

use crate::plan::status::OWNED_CONDITIONS;

/// Lists that merge by a key: replaced as a whole instead.
const MERGED: [&str; 2] = ["podIPs", "hostIPs"];

/// None when nothing differs. The UID in it makes the API refuse another pod of the same name.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let mut changes = Map::new();
    let (before, after) = (object(old), object(new));
    let keys = before.keys().chain(after.keys()).filter(|key| *key != "conditions");
    for key in keys {
        let (was, is) =
            (before.get(key).filter(|value| !is_empty(value)), after.get(key).filter(|value| !is_empty(value)));
        if was == is {
            continue;
        }
        let value = match is {
            None => Value::Null,
            Some(Value::Array(items)) if MERGED.contains(&key.as_str()) => {
                let mut items = items.clone();
                items.push(json!({"$patch": "replace"}));
                Value::Array(items)
            }
            Some(value) => value.clone(),
        };
        changes.insert(key.clone(), value);
    }
    let conditions = changed_conditions(old, new);
    if !conditions.is_empty() {
        changes.insert("conditions".into(), Value::Array(conditions));
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn changed_conditions(old: &PodStatus, new: &PodStatus) -> Vec<Value> {
    let before = old.conditions.as_deref().unwrap_or_default();
    let after = new.conditions.as_deref().unwrap_or_default();
    let ours = |one: &&PodCondition| OWNED_CONDITIONS.contains(&one.type_.as_str());
    let changed = after.iter().filter(ours).filter(|one| !before.contains(one));
    let changed = changed.map(|one| condition(one, before.iter().find(|was| was.type_ == one.type_)));
    let over = before.iter().filter(ours).filter(|was| after.iter().all(|one| one.type_ != was.type_));
    changed.chain(over.map(|was| json!({"$patch": "delete", "type": was.type_}))).collect()
}

/// A field that went away has to be said.
fn condition(one: &PodCondition, before: Option<&PodCondition>) -> Value {
    let mut value = serde_json::to_value(one).unwrap_or_default();
    if let (Value::Object(map), Some(before)) = (&mut value, before) {
        for (key, was, is) in [("reason", &before.reason, &one.reason), ("message", &before.message, &one.message)] {
            if was.is_some() && is.is_none() {
                map.insert(key.into(), Value::Null);
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> PodStatus {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let one = status(r#"{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}"#);
        assert_eq!(status_patch("u", &one, &one.clone()), None);
    }

    #[test]
    fn only_differences_and_own_conditions_are_written() {
        let old = status(
            r#"{"phase":"Pending","reason":"x","conditions":[{"type":"Ready","status":"False","reason":"r"},
                {"type":"gate","status":"True"},{"type":"PodResizeInProgress","status":"True"}]}"#,
        );
        let new = status(
            r#"{"phase":"Running","podIPs":[{"ip":"10.0.0.1"}],"conditions":[{"type":"Ready","status":"True"},{"type":"gate","status":"False"}]}"#,
        );
        let expected = json!({"metadata": {"uid": "u"}, "status": {
            "phase": "Running",
            "reason": null,
            "podIPs": [{"ip": "10.0.0.1"}, {"$patch": "replace"}],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": null},
                {"$patch": "delete", "type": "PodResizeInProgress"},
            ],
        }});
        assert_eq!(status_patch("u", &old, &new), Some(expected));
    }
}
