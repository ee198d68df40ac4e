//! Environment variables and where they come from.
//!
//! Must not know: containers.

use k8s_openapi::api::core::v1 as core;

use super::super::{invalid, names, required};
use crate::field::{Error, Errors, Path};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that exist, yet not everywhere.
const ELSEWHERE: &[&str] = &["metadata.annotations", "metadata.labels", "spec.restartPolicy", "status.phase"];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const MORE_THAN_ONE: &str = "may not have more than one field specified at a time";

pub(super) fn variables(variables: &[core::EnvVar], path: &Path, errors: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let at = path.index(i);
        required(&variable.name, &at.child("name"), errors);
        if !variable.name.is_empty() {
            invalid(names::env_var_name(&variable.name), &variable.name, &at.child("name"), errors);
        }
        if let Some(source) = &variable.value_from {
            let has_value = variable.value.as_ref().is_some_and(|value| !value.is_empty());
            value_from(source, has_value, &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &core::EnvVarSource, has_value: bool, path: &Path, errors: &mut Errors) {
    if let Some(field) = &source.field_ref {
        field_ref(field, FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        resource_ref(resource, &path.child("resourceFieldRef"), errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        key_ref(&key.name, &key.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &source.secret_key_ref {
        key_ref(&key.name, &key.key, &path.child("secretKeyRef"), errors);
    }
    let set = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ];
    match set.into_iter().filter(|is| *is).count() {
        0 => {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
                          `fileKeyRef`";
            errors.push(Error::invalid(path, "", detail));
        }
        _ if has_value => {
            errors.push(Error::invalid(path, "", "may not be specified when `value` is not empty"));
        }
        1 => {}
        _ => errors.push(Error::invalid(path, "", MORE_THAN_ONE)),
    }
}

/// A field of the pod itself; labels and annotations by key: `metadata.labels['app']`.
pub(super) fn field_ref(field: &core::ObjectFieldSelector, known: &[&str], path: &Path, errors: &mut Errors) {
    let (name, at) = (field.field_path.as_str(), path.child("fieldPath"));
    if name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if let Some((map, key)) = name.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        match map {
            "metadata.annotations" => invalid(names::qualified_name(&key.to_lowercase()), key, path, errors),
            "metadata.labels" => invalid(names::qualified_name(key), key, path, errors),
            _ => errors.push(Error::invalid(path, map, "does not support subscript")),
        }
    } else if !known.contains(&name) && !FIELDS.contains(&name) && !ELSEWHERE.contains(&name) {
        let detail = format!("error converting fieldPath: field label not supported: {name}");
        errors.push(Error::invalid(&at, name, detail));
    } else if !known.contains(&name) {
        errors.push(Error::not_supported(&at, name, known));
    }
}

/// A request or limit of a container.
pub(super) fn resource_ref(resource: &core::ResourceFieldSelector, path: &Path, errors: &mut Errors) {
    let (name, at) = (resource.resource.as_str(), path.child("resource"));
    let huge = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
    if name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if !RESOURCES.contains(&name) && !huge {
        errors.push(Error::not_supported(&at, name, RESOURCES));
    }
}

fn key_ref(name: &str, key: &str, path: &Path, errors: &mut Errors) {
    required(name, &path.child("name"), errors);
    required(key, &path.child("key"), errors);
    if !key.is_empty() {
        invalid(names::config_key(key), key, &path.child("key"), errors);
    }
}

pub(super) fn sources(sources: &[core::EnvFromSource], path: &Path, errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            invalid(names::env_var_name(prefix), prefix, &at.child("prefix"), errors);
        }
        if let Some(map) = &source.config_map_ref {
            required(&map.name, &at.child("configMapRef").child("name"), errors);
        }
        if let Some(secret) = &source.secret_ref {
            required(&secret.name, &at.child("secretRef").child("name"), errors);
        }
        match (source.config_map_ref.is_some(), source.secret_ref.is_some()) {
            (false, false) => {
                errors.push(Error::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"));
            }
            (true, true) => errors.push(Error::invalid(path, "", MORE_THAN_ONE)),
            _ => {}
        }
    }
}
