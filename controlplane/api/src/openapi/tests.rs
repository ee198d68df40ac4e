//! The OpenAPI documents: what they list, and that what they list exists.

use super::*;

#[test]
fn the_index_names_every_document_and_each_exists() {
    let index = v3_index(&[]);
    let paths = index["paths"].as_object().expect("paths");
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for (path, at) in paths {
        assert!(
            at["serverRelativeURL"].as_str().is_some_and(|url| url.starts_with(&format!("/openapi/v3/{path}?hash=")))
        );
        assert!(v3(path, &[]).is_some(), "{path}");
    }
    assert_eq!(v3("apis/nothing/v1", &[]), None);
    assert_eq!(document("/openapi/v3/"), Some(index));
    assert_eq!(document("/openapi/v3/apis/apps/v1"), v3("apis/apps/v1", &[]));
    assert!(document("/openapi/v2").is_some() && document("/openapi/v4").is_none());
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, prefix: &str, definitions: &Value) {
        if let Some(name) = value["$ref"].as_str().and_then(|text| text.strip_prefix(prefix)) {
            assert!(definitions.get(name).is_some(), "{name}");
        }
        match value {
            Value::Object(map) => map.values().for_each(|value| check(value, prefix, definitions)),
            Value::Array(items) => items.iter().for_each(|value| check(value, prefix, definitions)),
            _ => {}
        }
    }
    for (group, version) in group_versions() {
        let document = v3(&root(group, version), &[]).expect("served");
        check(&document, "#/components/schemas/", &document["components"]["schemas"]);
    }
    let document = v2(&[]);
    check(&document, "#/definitions/", &document["definitions"]);
}

/// What kubectl looks for before it lets the server validate fields (`query_param_verifier_v3.go`).
#[test]
fn every_kind_that_is_patched_says_so_and_takes_field_validation() {
    for kind in kinds::all().iter().filter(|kind| kind.verbs.contains(&"patch")) {
        let document = v3(&root(kind.group, kind.version), &[]).expect("served");
        let about = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
        let paths = document["paths"].as_object().expect("paths").values();
        let patches =
            paths.map(|path| &path["patch"]).filter(|patch| patch["x-kubernetes-group-version-kind"] == about);
        let taken = |patch: &Value| {
            let parameters = patch["parameters"].as_array().into_iter().flatten();
            parameters.into_iter().any(|one| one["name"] == "fieldValidation" && one["in"] == "query")
        };
        let patches: Vec<&Value> = patches.collect();
        assert!(!patches.is_empty(), "{about}");
        assert!(patches.into_iter().all(taken), "{about}");
    }
}

#[test]
fn the_protobuf_form_of_version_2_holds_its_definitions_and_extensions() {
    use crate::protobuf::wire::{Payload, Reader};
    fn message(bytes: &[u8], number: u32) -> Vec<&[u8]> {
        let (mut reader, mut found) = (Reader::new(bytes), Vec::new());
        while !reader.done() {
            match reader.field().expect("protobuf") {
                (at, Payload::Bytes(bytes)) if at == number => found.push(bytes),
                _ => {}
            }
        }
        found
    }
    let document = v2(&[]);
    let bytes = gnostic::encode(&document);
    assert_eq!(message(&bytes, 1), [b"2.0"]);
    let definitions = message(message(&bytes, 9)[0], 1);
    assert_eq!(definitions.len(), document["definitions"].as_object().unwrap().len());
    let pod = definitions.into_iter().find(|one| message(one, 1) == [b"io.k8s.api.core.v1.Pod"]).unwrap();
    let extension = message(message(pod, 2)[0], 31)[0];
    assert_eq!(message(extension, 1), [b"x-kubernetes-group-version-kind"]);
    let yaml = message(message(extension, 2)[0], 2)[0];
    assert_eq!(yaml, b"[{\"group\":\"\",\"kind\":\"Pod\",\"version\":\"v1\"}]\n");
    let paths = message(message(&bytes, 8)[0], 2);
    assert_eq!(paths.len(), document["paths"].as_object().unwrap().len());
}
