//! Object metadata, of every kind (`apimachinery/pkg/api/validation/objectmeta.go`).
//!
//! Must not know: any kind's fields.

use serde_json::Value;

use super::{names, shown};
use crate::field::{Error, Errors, Path};
use crate::kinds::Kind;

/// 256 KiB of annotations.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Checks the metadata of a new object whose name has been generated, if it is to be.
pub fn meta(kind: &Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    let (meta, path) = (&object["metadata"], Path::new("metadata"));
    let (name, prefix) = (text(&meta["name"]), text(&meta["generateName"]));
    if !prefix.is_empty() {
        super::invalid(name_problems(kind, &masked(prefix)), prefix, &path.child("generateName"), &mut errors);
    }
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        super::invalid(name_problems(kind, name), name, &path.child("name"), &mut errors);
    }
    namespace(kind, text(&meta["namespace"]), &path.child("namespace"), &mut errors);
    super::nonnegative(meta["generation"].as_i64(), &path.child("generation"), &mut errors);
    common(meta, &path, &mut errors);
    finalizers(&meta["finalizers"], &path.child("finalizers"), &mut errors);
    errors
}

/// Checks the change of an object's metadata, beside what [`meta`] says of the new one; both have what the server fills
/// in.
pub fn meta_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (new, old, path) = (&new["metadata"], &old["metadata"], Path::new("metadata"));
    if !old["deletionTimestamp"].is_null() {
        no_new_finalizers(new, old, &path.child("finalizers"), &mut errors);
    }
    if text(&new["resourceVersion"]).is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = |meta: &Value| meta["generation"].as_i64().unwrap_or(0);
    if generation(new) < generation(old) {
        errors.push(Error::invalid(&path.child("generation"), generation(new), "must not be decremented"));
    }
    let fixed = ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for field in fixed.into_iter().filter(|field| new[*field] != old[*field]) {
        errors.push(Error::invalid(&path.child(field), new[field].clone(), super::IMMUTABLE));
    }
    errors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What a generated name will look like: the dash at the end of a prefix never ends a name.
fn masked(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        // upstream drops the character before the dash too
        Some(rest) if !rest.is_empty() => {
            let mut kept: String = rest.chars().collect();
            kept.pop();
            kept.push('a');
            kept
        }
        _ => prefix.to_owned(),
    }
}

/// What is wrong with a name for an object of this kind.
pub fn name_problems(kind: &Kind, name: &str) -> names::Problems {
    match (kind.group, kind.kind) {
        ("", "Namespace" | "Service") => names::dns1123_label(name),
        ("apps", "StatefulSet") => names::dns1123_label(name),
        ("rbac.authorization.k8s.io", _)
        | ("certificates.k8s.io", "CertificateSigningRequest")
        | ("apiregistration.k8s.io", "APIService") => names::path_segment(name),
        ("batch", "CronJob") => {
            let mut problems = names::dns1123_subdomain(name);
            if name.len() > 52 {
                // the time that is added makes it the name of a Job
                problems.push("must be no more than 52 characters".to_owned());
            }
            problems
        }
        ("networking.k8s.io", "IPAddress") => names::ip(name),
        _ => names::dns1123_subdomain(name),
    }
}

fn namespace(kind: &Kind, namespace: &str, path: &Path, errors: &mut Errors) {
    match (kind.namespaced, namespace) {
        (true, "") => errors.push(Error::required(path, "")),
        (true, namespace) => super::invalid(names::dns1123_label(namespace), namespace, path, errors),
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(path, "not allowed on this type")),
    }
}

fn common(meta: &Value, path: &Path, errors: &mut Errors) {
    let pairs = |field: &str| meta[field].as_object().into_iter().flatten();
    labels(pairs("labels").map(|(k, v)| (k.as_str(), text(v))), &path.child("labels"), errors);
    annotations(pairs("annotations").map(|(k, v)| (k.as_str(), text(v))), &path.child("annotations"), errors);
    owners(&meta["ownerReferences"], &path.child("ownerReferences"), errors);
}

/// Labels, also of templates and node selectors.
pub(crate) fn labels<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, path: &Path, errors: &mut Errors) {
    for (key, value) in pairs {
        super::invalid(names::qualified_name(key), key, path, errors);
        super::invalid(names::label_value(value), value, path, errors);
    }
}

pub(crate) fn annotations<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in pairs {
        super::invalid(names::qualified_name(&key.to_lowercase()), key, path, errors);
        size += key.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        errors.push(Error::too_long(path, MAX_ANNOTATIONS));
    }
}

fn owners(list: &Value, path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in list.as_array().into_iter().flatten() {
        if text(&owner["apiVersion"]).rsplit('/').next().unwrap_or_default().is_empty() {
            let bad = text(&owner["apiVersion"]);
            errors.push(Error::invalid(&path.child("apiVersion"), bad, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(&owner[field]).is_empty() {
                errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if owner["apiVersion"] == "v1" && owner["kind"] == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(path, shown(owner), detail));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text(&owner["kind"]), text(&owner["name"]));
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {this}"
                );
                errors.push(Error::invalid(path, shown(list), detail));
            }
            controller.get_or_insert(this);
        }
    }
}

fn finalizers(list: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<&str> = list.as_array().into_iter().flatten().map(text).collect();
    for name in &all {
        super::invalid(names::qualified_name(name), name, path, errors);
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(path, shown(list), detail));
    }
}

fn no_new_finalizers(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let all = |meta: &Value| -> Vec<String> {
        meta["finalizers"].as_array().into_iter().flatten().map(|f| text(f).to_owned()).collect()
    };
    let had = all(old);
    let mut extra: Vec<String> = all(new).into_iter().filter(|name| !had.contains(name)).collect();
    extra.sort_unstable();
    if !extra.is_empty() {
        let names = extra.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{names}}}"
        );
        errors.push(Error::forbidden(path, detail));
    }
}
