//! Canonical form: what Go would write of an object, in its order, and its words for what does not fit.

use serde_json::json;

use super::*;
use crate::facts::{type_named, type_of};

fn canonical(kind: (&str, &str), object: Value) -> Result<Value> {
    let ty = type_of(kind.0, "v1", kind.1).expect("known kind");
    let mut object = object;
    canonicalize(&mut object, ty)?;
    Ok(object)
}

fn error(kind: (&str, &str), object: Value) -> String {
    canonical(kind, object).expect_err("must not fit").to_string()
}

const DEPLOYMENT: (&str, &str) = ("apps", "Deployment");

#[test]
fn zero_values_appear_where_go_writes_them() {
    let given = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a" }, "unknown": 1,
        "spec": { "replicas": 0, "paused": false, "template": { "spec": { "containers": [
            { "name": "c", "image": "", "ports": [{ "containerPort": 80, "hostPort": 0 }], "env": null, "args": [] }
        ] } } } });
    let expected = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a" },
        "spec": { "replicas": 0, "selector": null, "strategy": {}, "template": { "metadata": {}, "spec": { "containers": [
            { "name": "c", "ports": [{ "containerPort": 80 }], "resources": {} }
        ] } } }, "status": {} });
    assert_eq!(canonical(DEPLOYMENT, given), Ok(expected));
}

#[test]
fn scalars_get_their_one_spelling() {
    let given = json!({ "metadata": { "creationTimestamp": null, "deletionTimestamp": "2024-01-01T02:00:00.7+02:00" },
        "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": 2.5, "memory": "1024Mi" } } }] } });
    let out = canonical(("", "Pod"), given).expect("fits");
    assert_eq!(out["metadata"], json!({ "deletionTimestamp": "2024-01-01T00:00:00Z" }));
    assert_eq!(out["spec"]["containers"][0]["resources"]["limits"], json!({ "cpu": "2500m", "memory": "1Gi" }));
    let secret = canonical(("", "Secret"), json!({ "data": { "a": "YWJ\nj", "b": "YR==", "c": null } })).expect("fits");
    assert_eq!(secret["data"], json!({ "a": "YWJj", "b": "YQ==", "c": null }));
}

#[test]
fn an_int_or_string_held_by_value_is_never_omitted() {
    let service = canonical(("", "Service"), json!({ "spec": { "ports": [{ "port": 80 }] } })).expect("fits");
    assert_eq!(service["spec"]["ports"][0], json!({ "port": 80, "targetPort": 0 }));
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    let spec = |spec: Value| json!({ "spec": spec });
    assert_eq!(
        error(DEPLOYMENT, spec(json!({ "replicas": "three" }))),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        error(DEPLOYMENT, spec(json!({ "replicas": 1.5 }))),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    let containers = json!({ "template": { "spec": { "containers": { "name": "c" } } } });
    assert_eq!(
        error(DEPLOYMENT, spec(containers)),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"
    );
    assert_eq!(
        error(("", "Pod"), json!({ "metadata": { "labels": { "a": 1 } } })),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
    let volume = json!({ "volumes": [{ "emptyDir": "x" }] });
    assert_eq!(
        error(("", "Pod"), spec(volume)),
        "json: cannot unmarshal string into Go struct field Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource"
    );
    let cpu = json!({ "containers": [{ "resources": { "limits": { "cpu": "lots" } } }] });
    assert!(error(("", "Pod"), spec(cpu)).starts_with("quantities must match the regular expression"));
}

#[test]
fn fields_are_written_in_the_order_of_the_struct() {
    let ty = type_named("core/v1", "ConfigMap").expect("known");
    let object = json!({ "data": { "b": "2", "a": "<1>" }, "metadata": { "name": "n", "annotations": {} },
        "apiVersion": "v1", "kind": "ConfigMap", "other": 1 });
    let text = String::from_utf8(to_bytes(&object, ty)).expect("UTF-8");
    let expected =
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"n","annotations":{}},"data":{"a":"<1>","b":"2"}}"#;
    assert_eq!(text, expected);
}
