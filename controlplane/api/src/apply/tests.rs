//! Server-side apply: who owns what, conflicts, and what goes when its owner lets it go.

use serde_json::json;

use super::*;
use crate::facts::type_of;

const STATUS: &[&[&str]] = &[&["status"]];

fn deployment() -> &'static Type {
    type_of("apps", "v1", "Deployment").expect("known")
}

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, subresource: "", now: "2026-01-01T00:00:00Z", reset: STATUS }
}

fn canonical(mut object: Value) -> Value {
    canonical::canonicalize(&mut object, deployment()).expect("fits");
    object
}

/// The fields of the entry of a manager.
fn fields(object: &Value, manager: &str, operation: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.iter().find(|e| e["manager"] == manager && e["operation"] == operation);
    found.map(|e| e["fieldsV1"].clone()).unwrap_or_default()
}

fn sample(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" }, "spec": spec })
}

fn applied(live: Option<&Value>, spec: Value, manager: &str, force: bool) -> Result<Value, Status> {
    apply(live, &sample(spec), deployment(), &writer(manager), force).map(canonical)
}

#[test]
fn a_create_owns_what_it_sets_as_upstream_writes_it() {
    let containers =
        json!([{ "name": "web", "image": "nginx", "ports": [{ "containerPort": 80, "protocol": "TCP" }] }]);
    let mut object = canonical(sample(json!({ "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%" } },
        "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": containers } } })));
    after_update(None, &mut object, deployment(), &writer("kubectl-create"));
    let expected = json!({ "f:spec": {
        "f:replicas": {}, "f:selector": {},
        "f:strategy": { "f:type": {}, "f:rollingUpdate": { ".": {}, "f:maxSurge": {} } },
        "f:template": { "f:metadata": { "f:labels": { ".": {}, "f:app": {} } }, "f:spec": { "f:containers": {
            "k:{\"name\":\"web\"}": { ".": {}, "f:name": {}, "f:image": {}, "f:resources": {}, "f:ports": { ".": {},
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {}, "f:protocol": {} } } } } } } } });
    assert_eq!(fields(&object, "kubectl-create", "Update"), expected);
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["time"]), (&json!("apps/v1"), &json!("2026-01-01T00:00:00Z")));
}

#[test]
fn an_update_takes_fields_over() {
    let mut first = canonical(sample(json!({ "replicas": 1, "paused": true })));
    after_update(None, &mut first, deployment(), &writer("a"));
    let mut second = first.clone();
    second["spec"]["replicas"] = json!(2);
    after_update(Some(&first), &mut second, deployment(), &writer("b"));
    assert_eq!(fields(&second, "a", "Update"), json!({ "f:spec": { "f:paused": {} } }));
    assert_eq!(fields(&second, "b", "Update"), json!({ "f:spec": { "f:replicas": {} } }));
    let mut same = second.clone();
    after_update(Some(&second), &mut same, deployment(), &writer("c"));
    assert_eq!(same, second, "who changes nothing owns nothing");
}

#[test]
fn status_is_owned_through_its_subresource_only() {
    let mut first = canonical(sample(json!({ "replicas": 1 })));
    after_update(None, &mut first, deployment(), &writer("a"));
    let mut second = first.clone();
    second["status"]["replicas"] = json!(1);
    let by = Writer { manager: "kcm", subresource: "status", now: "2026-01-02T00:00:00Z", reset: &[&["spec"]] };
    after_update(Some(&first), &mut second, deployment(), &by);
    assert_eq!(fields(&second, "kcm", "Update"), json!({ "f:status": { "f:replicas": {} } }));
    assert_eq!(second["metadata"]["managedFields"][1]["subresource"], json!("status"));
}

#[test]
fn an_empty_entry_resets() {
    let mut first = canonical(sample(json!({ "replicas": 1 })));
    after_update(None, &mut first, deployment(), &writer("a"));
    let mut second = first.clone();
    second["metadata"]["managedFields"] = json!([{}]);
    after_update(Some(&first), &mut second, deployment(), &writer("a"));
    assert_eq!(second["metadata"].get("managedFields"), None);
}

#[test]
fn apply_creates_merges_and_removes_what_is_given_up() {
    let first = applied(None, json!({ "replicas": 2, "paused": true }), "me", false).expect("creates");
    assert_eq!(fields(&first, "me", "Apply"), json!({ "f:spec": { "f:replicas": {}, "f:paused": {} } }));
    let second = applied(Some(&first), json!({ "replicas": 3 }), "me", false).expect("applies");
    assert_eq!((&second["spec"]["replicas"], second["spec"].get("paused")), (&json!(3), None));
    assert_eq!(fields(&second, "me", "Apply"), json!({ "f:spec": { "f:replicas": {} } }));
}

#[test]
fn conflicts_are_refused_in_upstreams_words_or_forced() {
    let mut live = canonical(sample(json!({ "replicas": 1, "minReadySeconds": 1 })));
    after_update(None, &mut live, deployment(), &writer("mgr"));
    let one = applied(Some(&live), json!({ "replicas": 2 }), "me", false).expect_err("conflict");
    assert_eq!(one.message, r#"Apply failed with 1 conflict: conflict with "mgr" using apps/v1: .spec.replicas"#);
    assert_eq!((one.code, one.reason), (409, "Conflict"));
    let two = applied(Some(&live), json!({ "replicas": 2, "minReadySeconds": 2 }), "me", false).expect_err("conflicts");
    let expected = "Apply failed with 2 conflicts: conflicts with \"mgr\" using apps/v1:\n- .spec.minReadySeconds\n- .spec.replicas";
    assert_eq!(two.message, expected);
    let forced = applied(Some(&live), json!({ "replicas": 2 }), "me", true).expect("forced");
    assert_eq!(fields(&forced, "mgr", "Update"), json!({ "f:spec": { "f:minReadySeconds": {} } }));
    let shared = applied(Some(&live), json!({ "replicas": 1 }), "me", false).expect("the same value is no conflict");
    assert_eq!(fields(&shared, "mgr", "Update")["f:spec"]["f:replicas"], json!({}));
}

#[test]
fn items_of_a_list_have_owners_of_their_own() {
    let containers = |list: Value| json!({ "template": { "spec": { "containers": list } } });
    let first = applied(None, containers(json!([{ "name": "a", "image": "1" }, { "name": "b" }])), "me", false)
        .expect("creates");
    let second =
        applied(Some(&first), containers(json!([{ "name": "s", "image": "x" }])), "other", false).expect("adds");
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        list.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&second), ["a", "b", "s"]);
    let third =
        applied(Some(&second), containers(json!([{ "name": "a", "image": "1" }])), "me", false).expect("removes");
    assert_eq!(names(&third), ["a", "s"]);
}

#[test]
fn what_does_not_fit_is_refused_in_upstreams_words() {
    let message = |spec: Value| applied(None, spec, "me", false).expect_err("refused").message;
    let place = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): ";
    assert_eq!(message(json!({ "foo": 1 })), format!("{place}.spec.foo: field not declared in schema"));
    let twice = json!({ "template": { "spec": { "containers": [{ "name": "a" }, { "name": "a" }] } } });
    assert_eq!(
        message(twice),
        format!("{place}.spec.template.spec.containers: duplicate entries for key [name=\"a\"]")
    );
    let wrong = Status::bad_request(
        "Incorrect version specified in apply patch. Specified patch version: v1, expected: apps/v1",
    );
    let config = json!({ "apiVersion": "v1", "kind": "Deployment" });
    assert_eq!(apply(None, &config, deployment(), &writer("me"), false), Err(wrong));
}

#[test]
fn many_updaters_are_folded() {
    let mut object = canonical(sample(json!({ "replicas": 0 })));
    after_update(None, &mut object, deployment(), &writer("m0"));
    for at in 1..15 {
        let mut next = object.clone();
        next["metadata"]["annotations"][format!("a{at}")] = json!("x");
        after_update(Some(&object), &mut next, deployment(), &writer(&format!("m{at:02}")));
        object = next;
    }
    let managers = object["metadata"]["managedFields"].as_array().expect("managed");
    assert_eq!(managers.len(), 10);
    assert!(managers.iter().any(|entry| entry["manager"] == "ancient-changes"));
}
