//! Whether an object's metadata is well-formed, in upstream's words
//! (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).
//!
//! Must not know: stores, requests.

use pintle_api::field::{self, Errors, Path};
use pintle_api::kinds::Kind;
use serde_json::{Map, Value, json};

use super::{names, traits};

const IMMUTABLE: &str = "field is immutable";

/// 256 KiB of annotations at most.
const ANNOTATIONS: usize = 256 * 1024;

/// Checks a new object's metadata; also the new state of a changed one.
pub fn validate(object: &Value, kind: &Kind, errors: &mut Errors) {
    let path = Path::new("metadata");
    let meta = &object["metadata"];
    validate_name(meta, kind, &path, errors);
    validate_namespace(meta, kind, &path, errors);
    if let Some(labels) = meta["labels"].as_object() {
        validate_labels(labels, &path.child("labels"), errors);
    }
    if let Some(annotations) = meta["annotations"].as_object() {
        validate_annotations(annotations, &path.child("annotations"), errors);
    }
    validate_owners(&meta["ownerReferences"], &path.child("ownerReferences"), errors);
    validate_finalizers(&meta["finalizers"], &path.child("finalizers"), errors);
}

fn validate_name(meta: &Value, kind: &Kind, path: &Path, errors: &mut Errors) {
    let form = traits::name_form(kind);
    if let Some(prefix) = meta["generateName"].as_str().filter(|p| !p.is_empty()) {
        let path = path.child("generateName");
        errors.extend(form.check(prefix, true).into_iter().map(|e| field::Error::invalid(&path, prefix, e)));
    }
    let path = path.child("name");
    match meta["name"].as_str().filter(|n| !n.is_empty()) {
        None => errors.push(field::Error::required(&path, "name or generateName is required")),
        Some(name) => {
            errors.extend(form.check(name, false).into_iter().map(|e| field::Error::invalid(&path, name, e)));
        }
    }
}

fn validate_namespace(meta: &Value, kind: &Kind, path: &Path, errors: &mut Errors) {
    let path = path.child("namespace");
    match (kind.namespaced, meta["namespace"].as_str().unwrap_or_default()) {
        (true, "") => errors.push(field::Error::required(&path, "")),
        (true, namespace) => {
            let wrong = names::label(namespace).into_iter();
            errors.extend(wrong.map(|e| field::Error::invalid(&path, namespace, e)));
        }
        (false, "") => {}
        (false, _) => errors.push(field::Error::forbidden(&path, "not allowed on this type")),
    }
}

fn validate_labels(labels: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels {
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::qualified(key).into_iter().map(|e| field::Error::invalid(path, key.as_str(), e)));
        errors.extend(names::label_value(value).into_iter().map(|e| field::Error::invalid(path, value, e)));
    }
}

fn validate_annotations(annotations: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations {
        size += key.len() + value.as_str().map_or(0, str::len);
        let wrong = names::qualified(&key.to_lowercase()).into_iter();
        errors.extend(wrong.map(|e| field::Error::invalid(path, key.as_str(), e)));
    }
    if size > ANNOTATIONS {
        errors.push(field::Error::too_long(path, ANNOTATIONS));
    }
}

fn validate_owners(owners: &Value, path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        if text("apiVersion").is_empty() {
            errors.push(field::Error::invalid(&path.child("apiVersion"), "", "version must not be empty"));
        }
        for required in ["kind", "name", "uid"] {
            if text(required).is_empty() {
                errors.push(field::Error::invalid(&path.child(required), "", "must not be empty"));
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(field::Error::invalid(path, owner.clone(), why));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                     and {this}"
                );
                errors.push(field::Error::invalid(path, owners.clone(), why));
            }
            controller.get_or_insert(this);
        }
    }
}

fn validate_finalizers(finalizers: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<&str> = finalizers.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for finalizer in &all {
        errors.extend(names::qualified(finalizer).into_iter().map(|e| field::Error::invalid(path, *finalizer, e)));
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(field::Error::invalid(path, finalizers.clone(), why));
    }
}

/// Checks what a change may not touch.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    let (new, old) = (&new["metadata"], &old["metadata"]);
    if !old["deletionTimestamp"].is_null() {
        validate_no_new_finalizers(&new["finalizers"], &old["finalizers"], &path.child("finalizers"), errors);
    }
    for fixed in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new[fixed] != old[fixed] {
            errors.push(field::Error::invalid(&path.child(fixed), new[fixed].clone(), IMMUTABLE));
        }
    }
}

fn validate_no_new_finalizers(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let had = |f: &&Value| old.as_array().is_some_and(|all| all.contains(f));
    let extra: Vec<String> =
        new.as_array().into_iter().flatten().filter(|f| !had(f)).map(|f| json!(f).to_string()).collect();
    if !extra.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            extra.join(", ")
        );
        errors.push(field::Error::forbidden(path, why));
    }
}
