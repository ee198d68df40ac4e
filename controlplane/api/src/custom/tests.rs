//! Definitions and what they do to objects.

use serde_json::{Value, json};

use super::*;

fn definition() -> Value {
    let spec = json!({ "type": "object", "required": ["host"], "properties": {
        "host": { "type": "string", "maxLength": 5 },
        "replicas": { "type": "integer", "default": 2, "minimum": 1 },
        "mode": { "type": "string", "enum": ["On", "Off"] },
        "rest": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        "ports": { "type": "array", "x-kubernetes-list-type": "set", "items": { "x-kubernetes-int-or-string": true } },
    }, "x-kubernetes-validations": [
        { "rule": "self.replicas >= oldSelf.replicas", "message": "never less" },
    ] });
    let version = |name: &str, storage: bool| {
        json!({ "name": name, "served": true, "storage": storage, "subresources": { "status": {} },
            "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } },
            "selectableFields": [{ "jsonPath": ".spec.host" }],
            "additionalPrinterColumns": [{ "name": "Host", "type": "string", "jsonPath": ".spec.host" }] })
    };
    json!({ "metadata": { "name": "foos.example.com" }, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": { "plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList" },
        "versions": [version("v1", true), version("v2", false)],
    } })
}

fn resource() -> &'static Resource {
    kinds(&definition()).unwrap()[0].custom.unwrap()
}

fn wrong(spec: Value, old: Option<Value>) -> Vec<String> {
    let old = old.map(|spec| json!({ "spec": spec }));
    resource().check(&json!({ "spec": spec }), old.as_ref()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_definition_is_a_row_per_version_and_the_same_row_each_time() {
    let (first, again) = (kinds(&definition()).unwrap(), kinds(&definition()).unwrap());
    assert_eq!(
        first.iter().map(|kind| (kind.version, kind.storage.1)).collect::<Vec<_>>(),
        [("v1", "v1"), ("v2", "v1")]
    );
    assert!(std::ptr::eq(first[0], again[0]));
    assert!(first[0].stored() && first[0].subresource("status").is_some());
}

#[test]
fn what_the_schema_does_not_know_is_dropped_and_defaults_are_filled_in() {
    let mut object = json!({ "apiVersion": "example.com/v1", "kind": "Foo", "metadata": { "name": "a" },
        "spec": { "host": "h", "other": 1, "rest": { "any": 1 } }, "more": 1 });
    let mut dropped = resource().prune(&mut object).unwrap();
    dropped.sort();
    assert_eq!(dropped, ["more", "spec.other"]);
    resource().fill(&mut object);
    assert_eq!(object["spec"], json!({ "host": "h", "replicas": 2, "rest": { "any": 1 } }));
}

#[test]
fn values_are_checked_in_upstreams_words() {
    assert_eq!(wrong(json!({ "host": "h", "replicas": 2 }), None), Vec::<String>::new());
    assert_eq!(wrong(json!({ "replicas": 2 }), None), ["spec.host: Required value"]);
    let error = "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"";
    assert_eq!(wrong(json!({ "host": "h", "replicas": "2" }), None)[0], error);
    assert_eq!(
        wrong(json!({ "host": "h", "replicas": 0 }), None)[0],
        "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"
    );
    assert!(wrong(json!({ "host": "h", "replicas": 2, "mode": "x" }), None)[0].contains("supported values: "));
    assert!(wrong(json!({ "host": "longer", "replicas": 2 }), None)[0].starts_with("spec.host: Too long"));
    let twice = wrong(json!({ "host": "h", "replicas": 2, "ports": [1, "a", 1] }), None);
    assert_eq!(twice, ["spec.ports[2]: Duplicate value: 1"]);
    let less = wrong(json!({ "host": "h", "replicas": 1 }), Some(json!({ "host": "h", "replicas": 2 })));
    assert_eq!(less, ["spec: Invalid value: \"object\": never less"]);
}

#[test]
fn names_belong_to_whoever_came_first() {
    let status = definition::status(&definition(), &[], "now");
    assert!(definition::holds(&json!({ "status": status }), "Established"));
    assert_eq!(status["storedVersions"], json!(["v1"]));
    let first = json!({ "status": status });
    let second = definition::status(&definition(), &[&first], "now");
    assert_eq!(second["conditions"][0]["message"], "\"foos\" is already in use");
    assert!(!definition::holds(&json!({ "status": second }), "Established"));
}

#[test]
fn a_definition_names_itself_and_has_a_schema() {
    let mut it = definition();
    it["metadata"]["name"] = "other".into();
    it["spec"]["versions"][0]["schema"] = Value::Null;
    let mut errors = Errors::new();
    definition::check(&it, &mut errors);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors[0], "metadata.name: Invalid value: \"other\": must be spec.names.plural+\".\"+spec.group");
    assert!(errors[1].contains("schemas are required"), "{errors:?}");
}

#[test]
fn columns_are_read_by_path() {
    let item = json!({ "metadata": { "name": "a" }, "spec": { "host": "h" }, "status": { "conditions": [
        { "type": "Ready", "status": "True" }] } });
    let (definitions, rows) = table(resource(), &[&item], jiff::Timestamp::UNIX_EPOCH);
    assert_eq!((definitions.len(), rows), (2, vec![vec![json!("a"), json!("h")]]));
    let found = columns::select(&item, ".status.conditions[?(@.type==\"Ready\")].status");
    assert_eq!(found, [&json!("True")]);
}

#[test]
fn whatever_a_custom_resource_holds_can_be_applied() {
    let writer = crate::apply::Writer { manager: "m", subresource: "", now: "2026-01-02T03:04:05Z", reset: &[] };
    let config = json!({ "apiVersion": "example.com/v1", "kind": "Foo", "metadata": { "name": "a" },
        "spec": { "ports": [{ "name": "x" }] } });
    let applied = crate::apply::apply(None, &config, resource().ty, &writer, false).unwrap();
    assert_eq!(applied["spec"], config["spec"]);
    let owned = &applied["metadata"]["managedFields"][0];
    assert_eq!((&owned["apiVersion"], &owned["fieldsV1"]["f:spec"]["f:ports"]), (&json!("example.com/v1"), &json!({})));
}

#[test]
fn an_applied_configuration_has_no_fields_that_nobody_declared() {
    let config = json!({ "apiVersion": "example.com/v1", "kind": "Foo", "metadata": { "name": "a", "odd": 1 },
        "unknownField": "x" });
    let undeclared = resource().undeclared(&config);
    let error = crate::apply::refuse_undeclared(&config, resource().ty, &undeclared).unwrap_err();
    assert_eq!(
        error.message,
        "failed to create typed patch object (/a; example.com/v1, Kind=Foo): errors:\n  \
         .unknownField: field not declared in schema\n  .metadata.odd: field not declared in schema"
    );
}
