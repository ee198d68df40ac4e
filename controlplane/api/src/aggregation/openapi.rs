//! What other servers say of their groups in OpenAPI version 2, taken into this server's one document.
//! Source: `kube-aggregator/pkg/controllers/openapi/aggregator`.
//!
//! Must not know: how they are asked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const REFERENCE: &str = "#/definitions/";

/// What a server's document says of the paths below `root` (`/apis/<group>/<version>`): its paths, and the definitions
/// that they refer to, directly or by way of others. All that is kept of a document, which may be large.
pub fn part(document: &Value, root: &str) -> Value {
    let below = format!("{root}/");
    let paths = document["paths"].as_object().into_iter().flatten().filter(|(path, _)| path.starts_with(&below));
    let paths: Map<String, Value> = paths.map(|(path, it)| (path.clone(), it.clone())).collect();
    let mut definitions = Map::new();
    let mut wanted = Vec::new();
    paths.values().for_each(|path| references(path, &mut wanted));
    while let Some(name) = wanted.pop() {
        let Some(definition) = document["definitions"].get(&name) else { continue };
        if definitions.contains_key(&name) {
            continue;
        }
        references(definition, &mut wanted);
        definitions.insert(name, definition.clone());
    }
    serde_json::json!({ "paths": paths, "definitions": definitions })
}

/// Adds a part to the document. Where both have a definition of one name and do not agree, the part's has another name,
/// but for Kubernetes' own types: those are this server's.
pub fn merge(document: &mut Value, part: &Value) {
    let mut names = BTreeMap::new();
    for (name, definition) in part["definitions"].as_object().into_iter().flatten() {
        names.insert(name.clone(), free(&document["definitions"], name, definition));
    }
    let mut add = |field: &str, name: String, value: &Value| {
        let mut value = value.clone();
        rename(&mut value, &names);
        if let Some(all) = document[field].as_object_mut() {
            all.entry(name).or_insert(value);
        }
    };
    for (name, definition) in part["definitions"].as_object().into_iter().flatten() {
        let name = names.get(name).unwrap_or(name).clone();
        add("definitions", name, definition);
    }
    for (path, it) in part["paths"].as_object().into_iter().flatten() {
        add("paths", path.clone(), it);
    }
}

fn free(known: &Value, name: &str, definition: &Value) -> String {
    let shared = ["io.k8s.apimachinery.", "io.k8s.api."].iter().any(|own| name.starts_with(own));
    let fits = |name: &str| known.get(name).is_none_or(|it| it == definition);
    if shared || fits(name) {
        return name.to_owned();
    }
    (2..).map(|number| format!("{name}_v{number}")).find(|name| fits(name)).unwrap_or_default()
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let named = fields.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix(REFERENCE));
            found.extend(named.map(str::to_owned));
            fields.values().for_each(|it| references(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| references(it, found)),
        _ => {}
    }
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(REFERENCE).and_then(|name| names.get(name))
            {
                *reference = format!("{REFERENCE}{name}");
            }
            fields.values_mut().for_each(|it| rename(it, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|it| rename(it, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_has_its_own_paths_and_all_that_they_lead_to() {
        let document = json!({
            "paths": { "/apis/a/v1/boats": { "$ref": "#/definitions/Boat" }, "/apis/a/v11/boats": {}, "/apis/": {} },
            "definitions": { "Boat": { "crew": [{ "$ref": "#/definitions/Crew" }] }, "Crew": { "boat": { "$ref": "#/definitions/Boat" } }, "Car": {} },
        });
        let part = part(&document, "/apis/a/v1");
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&part["paths"]), ["/apis/a/v1/boats"]);
        assert_eq!(keys(&part["definitions"]), ["Boat", "Crew"]);
    }

    #[test]
    fn definitions_of_one_name_stay_apart_unless_they_are_kubernetes_own() {
        let mut document =
            json!({ "paths": {}, "definitions": { "Boat": { "a": 1 }, "io.k8s.api.core.v1.Pod": { "ours": true } } });
        let part = json!({
            "paths": { "/apis/a/v1/boats": { "$ref": "#/definitions/Boat" } },
            "definitions": { "Boat": { "a": 2 }, "io.k8s.api.core.v1.Pod": {} },
        });
        merge(&mut document, &part);
        assert_eq!(document["definitions"]["Boat_v2"], json!({ "a": 2 }));
        assert_eq!(document["definitions"]["Boat"], json!({ "a": 1 }));
        assert_eq!(document["definitions"]["io.k8s.api.core.v1.Pod"], json!({ "ours": true }));
        assert_eq!(document["paths"]["/apis/a/v1/boats"]["$ref"], "#/definitions/Boat_v2");
    }
}
