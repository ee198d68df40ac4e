//! Between the two faces of kinds that are served in two groups or versions and stored in one: events, and
//! HorizontalPodAutoscalers.
//!
//! Must not know: stores, requests.

use serde_json::{Map, Value, json};

use super::Kind;
use crate::object::{map_mut, metadata_mut};

/// `(name in v1, name in events.k8s.io/v1)` of the fields that have two.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// What `autoscaling/v1` has no fields for travels in annotations, under upstream's names.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Whether objects of a kind are stored as those of another row.
pub fn is_face(kind: &Kind) -> bool {
    kind.storage != (kind.group, kind.version, kind.plural)
}

/// Turns an object of `kind` into the version it is stored in; `apiVersion` included. Nothing to do for most kinds.
pub fn to_stored(kind: &Kind, object: &mut Value) {
    if !is_face(kind) {
        return;
    }
    match kind.kind {
        "Event" => rename(object, |(v1, events)| (events, v1)),
        "HorizontalPodAutoscaler" => autoscaler_to_v2(object),
        _ => {}
    }
    let (group, version, _) = kind.storage;
    object["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
}

/// Turns a stored object into what clients of `kind` read; `apiVersion` included.
pub fn from_stored(kind: &Kind, object: &mut Value) {
    if !is_face(kind) {
        return;
    }
    match kind.kind {
        "Event" => rename(object, |(v1, events)| (v1, events)),
        "HorizontalPodAutoscaler" => autoscaler_to_v1(object),
        _ => {}
    }
    object["apiVersion"] = kind.api_version().into();
}

fn rename(object: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in EVENT_FIELDS.map(direction) {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn take(object: &mut Value, part: &str, field: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.remove(field)
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// Takes the one metric out of a list that `autoscaling/v1` has a field for: cpu, in percent of what is requested.
fn split_cpu(list: Option<Value>, value: &str) -> (Option<Value>, Vec<Value>) {
    let (mut cpu, mut others) = (None, Vec::new());
    for metric in list.and_then(|list| list.as_array().cloned()).into_iter().flatten() {
        let percent = &metric["resource"][value]["averageUtilization"];
        if cpu.is_none() && is_cpu(&metric) && percent.is_number() {
            cpu = Some(percent.clone());
        } else {
            others.push(metric);
        }
    }
    (cpu, others)
}

fn autoscaler_to_v1(object: &mut Value) {
    let (target, others) = split_cpu(take(object, "spec", "metrics"), "target");
    if let Some(target) = target {
        map_mut(object, "spec").insert("targetCPUUtilizationPercentage".to_owned(), target);
    }
    let (current, other_statuses) = split_cpu(take(object, "status", "currentMetrics"), "current");
    if let Some(current) = current {
        map_mut(object, "status").insert("currentCPUUtilizationPercentage".to_owned(), current);
    }
    let behavior = take(object, "spec", "behavior");
    let conditions = take(object, "status", "conditions");
    annotate(object, METRICS, (!others.is_empty()).then(|| others.into()));
    annotate(object, CURRENT_METRICS, (!other_statuses.is_empty()).then(|| other_statuses.into()));
    annotate(object, BEHAVIOR, behavior);
    annotate(object, CONDITIONS, conditions);
}

fn annotate(object: &mut Value, key: &str, value: Option<Value>) {
    let Some(value) = value else { return };
    let annotations = metadata_mut(object).entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(key.to_owned(), value.to_string().into());
    }
}

/// The value behind an annotation that [`annotate`] wrote; what else stands there is left alone.
fn unannotate(object: &mut Value, key: &str) -> Option<Value> {
    let annotations = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    let value = serde_json::from_str(annotations.get(key)?.as_str()?).ok()?;
    annotations.remove(key);
    Some(value)
}

fn cpu_metric(value: &str, target: Value) -> Value {
    let mut amount = json!({ "averageUtilization": target });
    if value == "target" {
        amount["type"] = "Utilization".into();
    }
    let mut resource = json!({ "name": "cpu" });
    resource[value] = amount;
    json!({ "type": "Resource", "resource": resource })
}

fn autoscaler_to_v2(object: &mut Value) {
    let parts = [
        ("spec", "targetCPUUtilizationPercentage", METRICS, "metrics", "target"),
        ("status", "currentCPUUtilizationPercentage", CURRENT_METRICS, "currentMetrics", "current"),
    ];
    for (part, percent, annotation, list, value) in parts {
        let others = unannotate(object, annotation);
        let others = others.and_then(|others| others.as_array().cloned()).unwrap_or_default();
        let cpu = take(object, part, percent).filter(Value::is_number).map(|percent| cpu_metric(value, percent));
        let metrics: Vec<Value> = others.into_iter().chain(cpu).collect();
        if !metrics.is_empty() {
            map_mut(object, part).insert(list.to_owned(), metrics.into());
        }
    }
    for (part, annotation, field) in [("spec", BEHAVIOR, "behavior"), ("status", CONDITIONS, "conditions")] {
        if let Some(value) = unannotate(object, annotation) {
            map_mut(object, part).insert(field.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn kind(group: &str, version: &str, plural: &str) -> &'static Kind {
        kinds::find(group, version, plural).expect("a kind of the table")
    }

    #[test]
    fn an_event_has_two_faces() {
        let face = kind("events.k8s.io", "v1", "events");
        let stored = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" }, "message": "hello", "count": 2,
            "involvedObject": { "name": "a" }, "reportingComponent": "kubelet", "reason": "R",
        });
        let mut seen = stored.clone();
        from_stored(face, &mut seen);
        assert_eq!((&seen["note"], &seen["regarding"]["name"]), (&json!("hello"), &json!("a")));
        assert_eq!((&seen["apiVersion"], &seen["message"]), (&json!("events.k8s.io/v1"), &Value::Null));
        assert_eq!((&seen["reportingController"], &seen["deprecatedCount"]), (&json!("kubelet"), &json!(2)));
        to_stored(face, &mut seen);
        assert_eq!(seen, stored);
    }

    #[test]
    fn an_autoscaler_keeps_what_the_old_version_has_no_field_for() {
        let face = kind("autoscaling", "v1", "horizontalpodautoscalers");
        let cpu = cpu_metric("target", json!(80));
        let memory = json!({ "type": "Resource", "resource": { "name": "memory", "target": { "type": "Value" } } });
        let stored = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "h", "annotations": { "a": "b" } },
            "spec": { "maxReplicas": 3, "metrics": [memory, cpu], "behavior": { "scaleUp": {} } },
        });
        let mut seen = stored.clone();
        from_stored(face, &mut seen);
        assert_eq!(seen["spec"], json!({ "maxReplicas": 3, "targetCPUUtilizationPercentage": 80 }));
        to_stored(face, &mut seen);
        assert_eq!(seen, stored);
    }

    #[test]
    fn other_kinds_are_what_they_are() {
        let mut object = json!({ "apiVersion": "v1", "message": "x" });
        to_stored(kind("", "v1", "events"), &mut object);
        assert_eq!(object, json!({ "apiVersion": "v1", "message": "x" }));
    }
}
