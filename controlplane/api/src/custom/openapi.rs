//! Custom resources in OpenAPI documents.
//! Source: `apiextensions-apiserver/pkg/controller/openapi/builder`.
//!
//! Must not know: the documents that they are added to.

use serde_json::{Map, Value, json};

use crate::kinds::Kind;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// `com.example.stable.v1.Foo`, for the group `stable.example.com`.
fn name(kind: &Kind, suffix: &str) -> String {
    let group: Vec<&str> = kind.group.split('.').rev().collect();
    format!("{}.{}.{}{suffix}", group.join("."), kind.version, kind.kind)
}

/// The definitions of a kind and of its list; `refer` makes references of names.
pub fn definitions(kind: &Kind, refer: &dyn Fn(&str) -> Value, v2: bool) -> Map<String, Value> {
    let mut found = Map::new();
    let Some(resource) = kind.custom else { return found };
    let gvk = |kind_name: &str| json!([{ "group": kind.group, "version": kind.version, "kind": kind_name }]);
    // clients would refuse everything beside what is listed where anything may be
    let open = v2 && resource.schema["x-kubernetes-preserve-unknown-fields"] == true;
    let mut schema = match (&resource.schema, v2) {
        (Value::Object(_), _) if open => json!({}),
        (Value::Object(_), true) => for_v2(&resource.schema),
        (Value::Object(_), false) => resource.schema.clone(),
        _ => json!({}),
    };
    schema["type"] = "object".into();
    schema["x-kubernetes-group-version-kind"] = gvk(kind.kind);
    if resource.schema.is_object() && !open {
        let text = "Standard object's metadata.";
        let metadata = refer(&format!("{META}.ObjectMeta"));
        for field in ["apiVersion", "kind"] {
            let description = crate::openapi::descriptions::of_shared(field).unwrap_or_default();
            schema["properties"][field] = json!({ "type": "string", "description": description });
        }
        schema["properties"]["metadata"] =
            if v2 { metadata } else { json!({ "description": text, "allOf": [metadata] }) };
    }
    if !resource.selectable.is_empty() {
        let fields: Vec<Value> = resource.selectable.iter().map(|path| json!({ "fieldPath": path })).collect();
        schema["x-kubernetes-selectable-fields"] = fields.into();
    }
    let items = json!({ "type": "array", "items": refer(&name(kind, "")) });
    let list = json!({
        "type": "object", "required": ["items"], "x-kubernetes-group-version-kind": gvk(&resource.list_kind),
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" }, "items": items,
            "metadata": refer(&format!("{META}.ListMeta")),
        },
    });
    found.insert(name(kind, ""), schema);
    found.insert(name(kind, "List"), list);
    found
}

/// Without what version 2 has no words for, and what its clients would misread
/// (`apiextensions-apiserver/pkg/controller/openapi/v2`).
fn for_v2(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let nullable = schema["nullable"] == true;
    let blurred = open || nullable;
    let untyped = nullable
        || open && schema["type"] == "object"
        || schema["type"] == "array" && (blurred || schema["items"].is_null());
    let mut kept = Map::new();
    for (field, value) in fields {
        let value = match field.as_str() {
            "oneOf" | "anyOf" | "allOf" | "not" | "nullable" => continue,
            "properties" | "items" if blurred => continue,
            "type" if untyped => continue,
            "properties" => {
                let below = value.as_object().into_iter().flatten();
                Value::Object(below.map(|(name, property)| (name.clone(), for_v2(property))).collect())
            }
            "items" | "additionalProperties" if value.is_object() => for_v2(value),
            "required" => {
                let optional =
                    |name: &Value| name.as_str().is_some_and(|it| schema["properties"][it]["nullable"] == true);
                let left: Vec<Value> =
                    value.as_array().into_iter().flatten().filter(|it| !optional(it)).cloned().collect();
                if left.is_empty() { continue } else { left.into() }
            }
            _ => value.clone(),
        };
        kept.insert(field.clone(), value);
    }
    Value::Object(kept)
}

/// The paths of a kind: what clients look up to learn how it is read and written.
pub fn paths(kind: &Kind, refer: &dyn Fn(&str) -> Value, v2: bool) -> Map<String, Value> {
    let gvk = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let root = format!("/apis/{}/{}", kind.group, kind.version);
    let namespace = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let base = format!("{root}{namespace}/{}", kind.plural);
    let operation = |verb: &str, action: &str, answer: &str, takes: bool| {
        let scope = if kind.namespaced { "Namespaced" } else { "" };
        let id = format!("{verb}{}{scope}{}", camel(kind), kind.kind);
        let schema = refer(answer);
        let answered = if v2 {
            json!({ "schema": schema })
        } else {
            json!({ "content": { "application/json": { "schema": schema } } })
        };
        let mut answered = answered;
        answered["description"] = "OK".into();
        let mut operation = json!({
            "operationId": id, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
            "responses": { "200": answered },
        });
        if v2 {
            operation["consumes"] = json!(["application/json", "application/yaml"]);
            operation["produces"] = json!(["application/json", "application/yaml"]);
        }
        let body = refer(&name(kind, ""));
        let query = ["dryRun", "fieldManager", "fieldValidation"].map(|name| parameter(name, v2));
        if takes {
            operation["parameters"] = query.to_vec().into();
            if v2 {
                let body = json!({ "name": "body", "in": "body", "required": true, "schema": body });
                operation["parameters"] = query.into_iter().chain([body]).collect();
            } else {
                operation["requestBody"] = json!({ "content": { "*/*": { "schema": body } } });
            }
        }
        operation
    };
    let (own, list, status) = (name(kind, ""), name(kind, "List"), format!("{META}.Status"));
    let mut found = Map::new();
    let collection = json!({
        "get": operation("list", "list", &list, false), "post": operation("create", "post", &own, true),
        "delete": operation("deleteCollection", "deletecollection", &status, false),
    });
    let mut patch = operation("patch", "patch", &own, true);
    let kinds = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
    if v2 {
        patch["consumes"] = json!(kinds);
    } else {
        let content: Map<String, Value> =
            kinds.iter().map(|it| ((*it).to_owned(), json!({ "schema": refer(&format!("{META}.Patch")) }))).collect();
        patch["requestBody"] = json!({ "content": content });
    }
    let item = json!({
        "get": operation("read", "get", &own, false), "put": operation("replace", "put", &own, true),
        "delete": operation("delete", "delete", &status, false), "patch": patch,
    });
    found.insert(format!("{base}/{{name}}"), item);
    found.insert(base, collection);
    found
}

fn parameter(name: &str, v2: bool) -> Value {
    if v2 {
        json!({ "name": name, "in": "query", "type": "string", "uniqueItems": true })
    } else {
        json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } })
    }
}

fn camel(kind: &Kind) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
    };
    kind.group.split('.').map(capital).collect::<String>() + &capital(kind.version)
}
