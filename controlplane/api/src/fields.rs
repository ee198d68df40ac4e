//! Selectable fields: which fields of a kind a field selector may name, and their values in an object.
//!
//! Must not know: how selectors are written.

use serde_json::Value;

use crate::kinds::Kind;
use crate::selector::FieldSelector;

const POD: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

const EVENT: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// `events.k8s.io/v1` calls them otherwise.
const EVENTS_V1: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// The fields of a kind beside `metadata.name` and `metadata.namespace`.
fn names(kind: &Kind) -> &'static [&'static str] {
    if let Some(resource) = kind.custom {
        return resource.selectable;
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => POD,
        ("", "Event") => EVENT,
        ("events.k8s.io", "Event") => EVENTS_V1,
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["spec.signerName"],
        ("resource.k8s.io", "ResourceSlice") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

/// The selectable fields of an object with their values; an absent field is empty (or `false`, or `0`).
pub fn selectable(kind: &Kind, object: &Value) -> Vec<(&'static str, String)> {
    let mut fields = vec![("metadata.name", text(&object["metadata"]["name"]))];
    if kind.namespaced {
        fields.push(("metadata.namespace", text(&object["metadata"]["namespace"])));
    }
    fields.extend(names(kind).iter().map(|name| (*name, value(object, name))));
    fields
}

fn value(object: &Value, name: &str) -> String {
    let found = name.split('.').fold(object, |at, field| &at[field]);
    match (name, found) {
        ("spec.hostNetwork" | "spec.unschedulable", Value::Null) => "false".to_owned(),
        ("status.replicas", Value::Null) => "0".to_owned(),
        ("status.successful", _) => text_or(&object["status"]["succeeded"], "0"),
        // older writers fill source.component, newer ones reportingComponent
        ("source", _) => first_text([&object["source"]["component"], &object["reportingComponent"]]),
        ("status.podIPs", Value::Array(ips)) => {
            ips.iter().filter_map(|ip| ip["ip"].as_str()).collect::<Vec<_>>().join(",")
        }
        _ => text(found),
    }
}

fn first_text<const N: usize>(values: [&Value; N]) -> String {
    values.into_iter().map(text).find(|text| !text.is_empty()).unwrap_or_default()
}

fn text_or(value: &Value, absent: &str) -> String {
    if value.is_null() { absent.to_owned() } else { text(value) }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Checks that a kind has every field that a selector names, and replaces old names of fields by today's.
/// Errors are upstream's.
pub fn check(kind: &Kind, selector: &mut FieldSelector) -> Result<(), String> {
    for term in &mut selector.terms {
        if kind.kind == "Pod" && term.field == "spec.host" {
            "spec.nodeName".clone_into(&mut term.field);
        }
        if (kind.group, kind.kind) == ("events.k8s.io", "Event") && EVENTS_V1.contains(&term.field.as_str()) {
            // what is stored is a core Event
            term.field = match term.field.strip_prefix("regarding.") {
                Some(rest) => format!("involvedObject.{rest}"),
                None if term.field == "reportingController" => "reportingComponent".to_owned(),
                None => continue,
            };
            continue;
        }
        let generic = term.field == "metadata.name" || term.field == "metadata.namespace" && kind.namespaced;
        if !generic && !names(kind).contains(&term.field.as_str()) {
            return Err(unsupported(kind, &term.field));
        }
    }
    Ok(())
}

fn unsupported(kind: &Kind, field: &str) -> String {
    match (kind.group, kind.kind) {
        ("batch", "Job") => format!("field label {field:?} not supported for Job"),
        ("resource.k8s.io", "ResourceSlice") => {
            format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {field}")
        }
        _ if names(kind).is_empty() => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds;

    fn pods() -> &'static Kind {
        kinds::find("", "v1", "pods").expect("pods")
    }

    #[test]
    fn a_pod_is_found_by_its_node_and_phase() {
        let pod = json!({
            "metadata": { "name": "a", "namespace": "b" },
            "spec": { "nodeName": "n", "restartPolicy": "Always" },
            "status": { "phase": "Running" },
        });
        let fields = selectable(pods(), &pod);
        for (text, matches) in [
            ("spec.nodeName=n,status.phase!=Failed", true),
            ("metadata.name=a,metadata.namespace=b,spec.hostNetwork=false", true),
            ("spec.nodeName=", false),
            ("status.nominatedNodeName=", true),
        ] {
            assert_eq!(FieldSelector::parse(text).expect(text).matches(&fields), matches, "{text}");
        }
    }

    #[test]
    fn events_are_found_by_the_names_of_either_group() {
        let core = kinds::find("", "v1", "events").expect("events");
        let events = kinds::find("events.k8s.io", "v1", "events").expect("events");
        let event =
            json!({ "metadata": { "name": "e" }, "reportingComponent": "c", "involvedObject": { "kind": "Pod" } });
        let mut selector = FieldSelector::parse("reportingController=c,regarding.kind=Pod").expect("parses");
        check(events, &mut selector).expect("known");
        assert!(selector.matches(&selectable(core, &event)));
    }

    #[test]
    fn unknown_fields_are_named() {
        let mut selector = FieldSelector::parse("spec.color=red").expect("parses");
        assert_eq!(check(pods(), &mut selector).expect_err("unknown"), "field label not supported: spec.color");
        let configmaps = kinds::find("", "v1", "configmaps").expect("configmaps");
        let error = check(configmaps, &mut selector).expect_err("unknown");
        assert!(error.starts_with("\"spec.color\" is not a known field selector"), "{error}");
    }

    #[test]
    fn old_names_still_work() {
        let mut selector = FieldSelector::parse("spec.host=n").expect("parses");
        check(pods(), &mut selector).expect("known");
        assert_eq!(selector.to_string(), "spec.nodeName=n");
    }
}
