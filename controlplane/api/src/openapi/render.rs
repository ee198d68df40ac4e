//! Paths and operations as OpenAPI writes them.
//!
//! Must not know: which paths there are.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::operations::{Answer, Body, Operation, Parameter, Path};
use super::schema::reference;

const CONTENT: [&str; 3] = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const STREAM: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

pub(super) fn v3_path(path: &Path) -> Value {
    render(path, Dialect::V3)
}

pub(super) fn v2_path(path: &Path) -> Value {
    render(path, Dialect::V2)
}

fn render(path: &Path, dialect: Dialect) -> Value {
    let mut out = Map::new();
    let mut parameters: Vec<Value> = path.parameters.iter().map(|p| query(*p, dialect)).collect();
    parameters.extend(path.places.iter().map(|name| place(name, dialect)));
    parameters.sort_by_key(|p| (text(p, "name"), text(p, "in")));
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), Value::Array(parameters));
    }
    for operation in &path.operations {
        out.insert(operation.method.to_owned(), self::operation(operation, dialect));
    }
    Value::Object(out)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn query((name, kind): Parameter, dialect: Dialect) -> Value {
    parameter(name, "query", kind, dialect)
}

fn place(name: &str, dialect: Dialect) -> Value {
    let mut out = parameter(name, "path", "string", dialect);
    out["required"] = json!(true);
    out
}

fn parameter(name: &str, place: &str, kind: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({ "name": name, "in": place, "type": kind, "uniqueItems": true }),
        Dialect::V3 => json!({ "name": name, "in": place, "schema": { "type": kind, "uniqueItems": true } }),
    }
}

fn operation(operation: &Operation, dialect: Dialect) -> Value {
    let mut out = Map::new();
    out.insert("operationId".to_owned(), json!(operation.id));
    out.insert("tags".to_owned(), json!([operation.tag]));
    let mut parameters: Vec<Value> = operation.parameters.iter().map(|p| query(*p, dialect)).collect();
    parameters.sort_by_key(|p| (text(p, "name"), text(p, "in")));
    match dialect {
        Dialect::V2 => v2_body(operation, &mut parameters, &mut out),
        Dialect::V3 => v3_body(operation, &mut out),
    }
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), Value::Array(parameters));
    }
    out.insert("responses".to_owned(), responses(operation, dialect));
    if !operation.action.is_empty() {
        out.insert("x-kubernetes-action".to_owned(), json!(operation.action));
    }
    if let Some((group, version, kind)) = operation.about {
        let about = json!({ "group": group, "version": version, "kind": kind });
        out.insert("x-kubernetes-group-version-kind".to_owned(), about);
    }
    Value::Object(out)
}

fn v3_body(operation: &Operation, out: &mut Map<String, Value>) {
    let of = |name: &str, kinds: &[&str]| -> Map<String, Value> {
        let schema = reference(name, Dialect::V3);
        kinds.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect()
    };
    let body = match operation.body {
        Body::None => return,
        Body::Object(ty) => json!({ "content": of(&ty.openapi_name(), &["*/*"]), "required": true }),
        Body::Options(ty) => json!({ "content": of(&ty.openapi_name(), &["*/*"]) }),
        Body::Patch => json!({ "content": of(PATCH, &PATCHES), "required": true }),
    };
    out.insert("requestBody".to_owned(), body);
}

fn v2_body(operation: &Operation, parameters: &mut Vec<Value>, out: &mut Map<String, Value>) {
    let body = |name: &str, required: bool| {
        let mut body = json!({ "name": "body", "in": "body", "schema": reference(name, Dialect::V2) });
        if required {
            body["required"] = json!(true);
        }
        body
    };
    match operation.body {
        Body::None => {}
        Body::Object(ty) => parameters.insert(0, body(&ty.openapi_name(), true)),
        Body::Options(ty) => parameters.insert(0, body(&ty.openapi_name(), false)),
        Body::Patch => parameters.insert(0, body(PATCH, true)),
    }
    let consumes: &[&str] = if matches!(operation.body, Body::Patch) { &PATCHES } else { &["*/*"] };
    out.insert("consumes".to_owned(), json!(consumes));
    out.insert("produces".to_owned(), json!(produced(operation)));
    out.insert("schemes".to_owned(), json!(["https"]));
}

fn produced(operation: &Operation) -> Vec<&'static str> {
    match operation.answer {
        Answer::Object(_) => CONTENT.to_vec(),
        Answer::Stream(_) => CONTENT.into_iter().chain(STREAM).collect(),
        Answer::Text if operation.action == "connect" => vec!["*/*"],
        Answer::Text => ["text/plain"].into_iter().chain(CONTENT).collect(),
    }
}

fn responses(operation: &Operation, dialect: Dialect) -> Value {
    let schema = match operation.answer {
        Answer::Object(ty) | Answer::Stream(ty) => reference(&ty.openapi_name(), dialect),
        Answer::Text => json!({ "type": "string" }),
    };
    let mut out = Map::new();
    for (code, text) in operation.codes {
        let mut response = json!({ "description": text });
        match dialect {
            _ if *code == "401" => {}
            Dialect::V2 => response["schema"] = schema.clone(),
            Dialect::V3 => {
                let content =
                    produced(operation).into_iter().map(|kind| (kind.to_owned(), json!({ "schema": schema })));
                response["content"] = Value::Object(content.collect());
            }
        }
        out.insert((*code).to_owned(), response);
    }
    Value::Object(out)
}
