//! The OpenAPI documents have the structure of upstream's: every definition and operation that upstream has for a kind
//! we serve is here, equal but for sentences.
//!
//! The data is upstream's and not part of this repository: it is looked for in `shared/upstream/openapi-v3` beside any
//! folder above, or where `PINTLE_UPSTREAM` says; without it the tests say that they are skipped.

use std::path::{Path, PathBuf};

use pintle_api::openapi;
use serde_json::Value;

fn documents() -> Option<PathBuf> {
    let named = std::env::var_os("PINTLE_UPSTREAM").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared/upstream"));
    let found = named.into_iter().chain(beside).map(|root| root.join("openapi-v3")).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: no shared/upstream/openapi-v3 above this crate");
    }
    found
}

/// `(name, ours, upstream's)` for each document both have.
fn pairs() -> Vec<(String, Value, Value)> {
    let Some(dir) = documents() else { return Vec::new() };
    let index = openapi::v3_index(&[]);
    let names = index["paths"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let mut found = Vec::new();
    for name in names {
        let Ok(text) = std::fs::read(dir.join(format!("{}_openapi.json", name.replace('/', "__")))) else { continue };
        let mut theirs: Value = serde_json::from_slice(&text).expect("JSON");
        let mut ours = openapi::v3(&name, &[]).expect("in the index");
        plain(&mut theirs);
        plain(&mut ours);
        found.push((name, ours, theirs));
    }
    found
}

/// Without sentences, without what we do not serve (CBOR, unions), and with references in one form only.
fn plain(value: &mut Value) {
    if let Value::Object(map) = value {
        // a schema's own property may be called "description"
        map.retain(|key, value| match key.as_str() {
            "description" => !value.is_string(),
            other => !other.contains("cbor") && other != "x-kubernetes-unions",
        });
        let only =
            map.get("allOf").and_then(Value::as_array).filter(|all| all.len() == 1).map(|all| all[0]["$ref"].clone());
        if let Some(reference) = only.filter(|r| !r.is_null()) {
            map.remove("allOf");
            map.insert("$ref".to_owned(), reference);
        }
        map.values_mut().for_each(plain);
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(plain);
    }
}

#[test]
fn definitions_are_upstreams() {
    let mut wrong = Vec::new();
    for (name, ours, theirs) in pairs() {
        for (definition, schema) in theirs["components"]["schemas"].as_object().expect("schemas") {
            let own = &ours["components"]["schemas"][definition];
            if own != schema {
                wrong.push(format!("{name} {definition}\n  ours   {own}\n  theirs {schema}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn operations_are_upstreams() {
    let mut wrong = Vec::new();
    for (name, ours, theirs) in pairs() {
        for (path, operations) in theirs["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let own = &ours["paths"][path][method];
                if own != operation {
                    wrong.push(format!("{name} {method} {path}\n  ours   {own}\n  theirs {operation}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
