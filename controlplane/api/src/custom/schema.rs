//! Structural schemas: what of an object is known, and what is filled in.
//! Sources: `apiextensions-apiserver/pkg/apiserver/schema/{pruning,defaulting}`.
//!
//! Must not know: whether values are valid.

use serde_json::{Map, Value};

/// Upstream stops collecting there.
const MOST: usize = 100;

pub fn prune(object: &mut Value, schema: &Value) -> Vec<String> {
    let mut dropped = Vec::new();
    if !schema.is_null() {
        walk(object, schema, "", true, &mut dropped);
    }
    dropped
}

fn is(schema: &Value, extension: &str) -> bool {
    schema[extension] == true
}

fn walk(value: &mut Value, schema: &Value, path: &str, root: bool, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => prune_fields(fields, schema, path, root, dropped),
        Value::Array(items) if schema["items"].is_object() => {
            for (at, item) in items.iter_mut().enumerate() {
                walk(item, &schema["items"], &format!("{path}[{at}]"), false, dropped);
            }
        }
        _ => {}
    }
}

fn prune_fields(fields: &mut Map<String, Value>, schema: &Value, path: &str, root: bool, dropped: &mut Vec<String>) {
    let whole = root || is(schema, "x-kubernetes-embedded-resource");
    let (properties, additional) = (&schema["properties"], &schema["additionalProperties"]);
    let keeps = is(schema, "x-kubernetes-preserve-unknown-fields") || *additional == true;
    fields.retain(|name, value| {
        if whole && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let known = match properties.get(name) {
            Some(known) => Some(known),
            None => Some(additional).filter(|it| it.is_object()),
        };
        if let Some(known) = known {
            walk(value, known, &below, false, dropped);
        } else if !keeps && dropped.len() < MOST {
            dropped.push(below);
        }
        known.is_some() || keeps
    });
}

pub fn fill(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, known) in schema["properties"].as_object().into_iter().flatten() {
                let default = &known["default"];
                let missing = match fields.get(name) {
                    None => true,
                    Some(value) => value.is_null() && known["nullable"] != true,
                };
                if missing && !default.is_null() {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                match schema["properties"].get(name) {
                    Some(known) => fill(value, known),
                    None if schema["additionalProperties"].is_object() => fill(value, &schema["additionalProperties"]),
                    None => {}
                }
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            items.iter_mut().for_each(|item| fill(item, &schema["items"]));
        }
        _ => {}
    }
}
