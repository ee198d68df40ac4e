//! The OpenAPI documents: what they list, and that what they list exists.

use super::*;

#[test]
fn the_index_names_every_document_and_each_exists() {
    let index = v3_index();
    let paths = index["paths"].as_object().expect("paths");
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for (path, at) in paths {
        assert!(
            at["serverRelativeURL"].as_str().is_some_and(|url| url.starts_with(&format!("/openapi/v3/{path}?hash=")))
        );
        assert!(v3(path).is_some(), "{path}");
    }
    assert_eq!(v3("apis/nothing/v1"), None);
    assert_eq!(document("/openapi/v3/"), Some(index));
    assert_eq!(document("/openapi/v3/apis/apps/v1"), v3("apis/apps/v1"));
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
        let document = v3(&root(group, version)).expect("served");
        check(&document, "#/components/schemas/", &document["components"]["schemas"]);
    }
    let document = v2();
    check(&document, "#/definitions/", &document["definitions"]);
}
