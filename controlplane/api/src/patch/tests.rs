//! JSON, merge and strategic merge patches, and the errors that users read.

use serde_json::json;

use super::*;
use crate::facts::type_of;

fn pod(current: Value, patch: Value) -> Result<Value, String> {
    let ty = type_of("", "v1", "Pod").expect("known");
    strategic(&json!({ "spec": current }), &json!({ "spec": patch }), ty)
        .map(|mut patched| patched["spec"].take())
        .map_err(|status| format!("{} {}", status.code, status.message))
}

/// (what, current spec, patch, result)
#[test]
fn strategic_merge() {
    let two = json!([{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }]);
    let cases = [
        (
            "items with the same key merge, others stay in the live order",
            json!({ "containers": two }),
            json!({ "containers": [{ "name": "b", "image": "2" }, { "name": "c" }] }),
            json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b", "image": "2" }, { "name": "c" }] }),
        ),
        (
            "an item is deleted",
            json!({ "containers": two }),
            json!({ "containers": [{ "name": "a", "$patch": "delete" }] }),
            json!({ "containers": [{ "name": "b", "image": "1" }] }),
        ),
        (
            "a list is replaced",
            json!({ "containers": two }),
            json!({ "containers": [{ "name": "z" }, { "$patch": "replace" }] }),
            json!({ "containers": [{ "name": "z" }] }),
        ),
        (
            "the order is set",
            json!({ "containers": two }),
            json!({ "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }], "containers": [{ "name": "b", "image": "3" }] }),
            json!({ "containers": [{ "name": "b", "image": "3" }, { "name": "a", "image": "1" }] }),
        ),
        (
            "keys are retained",
            json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }),
            json!({ "volumes": [{ "name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": { "path": "/" } }] }),
            json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }),
        ),
        (
            "lists without a strategy are replaced",
            json!({ "containers": [{ "name": "a", "args": ["x", "y"] }] }),
            json!({ "containers": [{ "name": "a", "args": ["z"] }] }),
            json!({ "containers": [{ "name": "a", "args": ["z"] }] }),
        ),
        (
            "null deletes, and is not kept in what is new",
            json!({ "nodeName": "n", "nodeSelector": { "a": "1", "b": "2" } }),
            json!({ "nodeName": null, "nodeSelector": { "a": null }, "affinity": { "nodeAffinity": null } }),
            json!({ "nodeSelector": { "b": "2" }, "affinity": {} }),
        ),
        (
            "a map is replaced",
            json!({ "nodeSelector": { "a": "1" } }),
            json!({ "nodeSelector": { "$patch": "replace", "c": "3" } }),
            json!({ "nodeSelector": { "c": "3" } }),
        ),
    ];
    for (what, current, patch, result) in cases {
        assert_eq!(pod(current, patch), Ok(result), "{what}");
    }
}

#[test]
fn primitives_merge_and_are_deleted_from() {
    // without an order from the client, what only the server has comes last
    let ty = type_of("", "v1", "Pod").expect("known");
    let current = json!({ "metadata": { "finalizers": ["a", "b"] } });
    let add = json!({ "metadata": { "finalizers": ["c"] } });
    let remove = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"] } });
    let finalizers = |patch: &Value| strategic(&current, patch, ty).expect("applies")["metadata"]["finalizers"].clone();
    assert_eq!(finalizers(&add), json!(["c", "a", "b"]));
    assert_eq!(finalizers(&remove), json!(["b"]));
}

#[test]
fn bad_directives_are_refused_in_upstreams_words() {
    let two = json!({ "containers": [{ "name": "a" }, { "name": "b" }] });
    let cases = [
        (
            json!({ "containers": [{ "image": "x" }] }),
            r#"500 map: {"image":"x"} does not contain declared merge key: name"#,
        ),
        (
            json!({ "containers": [{ "name": "a", "$patch": "bogus" }] }),
            r#"500 unknown patch type: bogus in map: {"$patch":"bogus","name":"a"}"#,
        ),
        (json!({ "volumes": [], "$retainKeys": [] }), "400 invalid patch format of retainKeys"),
        (json!({ "$setElementOrder": [] }), "400 invalid patch format of setElementOrder list"),
    ];
    for (patch, message) in cases {
        assert_eq!(pod(two.clone(), patch), Err(message.to_owned()));
    }
}

#[test]
fn json_and_merge_patches() {
    let current = json!({ "a": { "b": 1, "c": [1, 2] } });
    let patch = json!([{ "op": "replace", "path": "/a/b", "value": 2 }, { "op": "remove", "path": "/a/c/0" }]);
    assert_eq!(json(&current, &patch), Ok(json!({ "a": { "b": 2, "c": [2] } })));
    let test = json!([{ "op": "test", "path": "/a/b", "value": 7 }]);
    assert_eq!(json(&current, &test).map_err(|s| s.code), Err(422));
    assert_eq!(json(&current, &json!({})).map_err(|s| s.code), Err(400));
    let double = |at: usize| json!({ "op": "copy", "from": "/a", "path": format!("/a/again{at}") });
    let doubled = Value::Array((0..40).map(double).collect());
    assert_eq!(json(&current, &doubled).map_err(|s| s.code), Err(422), "what grows without a bound is refused");
    assert_eq!(merge(&current, &json!({ "a": { "b": null, "c": [3] } })), Ok(json!({ "a": { "c": [3] } })));
    assert_eq!(merge(&current, &json!([])).map_err(|s| s.code), Err(400));
}
