//! ConfigMaps, Secrets, claims of storage.
//!
//! Must not know: pods.

use k8s_openapi::api::core::v1 as api;

use super::{immutable, names, one_of, resources, selectors, text};
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;

/// 1 MiB.
const MAX_SIZE: usize = 1 << 20;
const FROZEN: &str = "field is immutable when `immutable` is set";

pub(crate) fn config_map(map: &api::ConfigMap, errors: &mut Errors) {
    let (data, binary) = (Path::new("data"), Path::new("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        super::invalid(names::config_key(key), key, &data.key(key), errors);
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            errors.push(Error::invalid(&data.key(key), key.as_str(), "duplicate of key present in binaryData"));
        }
        size += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        super::invalid(names::config_key(key), key, &binary.key(key), errors);
        size += value.0.len();
    }
    if size > MAX_SIZE {
        errors.push(Error::too_long(&Path::default(), MAX_SIZE));
    }
}

pub(crate) fn config_map_update(new: &api::ConfigMap, old: &api::ConfigMap, errors: &mut Errors) {
    if old.immutable != Some(true) {
        return;
    }
    let changed = [
        ("immutable", new.immutable != Some(true)),
        ("data", new.data != old.data),
        ("binaryData", new.binary_data != old.binary_data),
    ];
    frozen(&changed, errors);
}

fn frozen(changed: &[(&str, bool)], errors: &mut Errors) {
    let fields = changed.iter().filter(|(_, changed)| *changed);
    errors.extend(fields.map(|(field, _)| Error::forbidden(&Path::new(field), FROZEN)));
}

pub(crate) fn secret(secret: &api::Secret, errors: &mut Errors) {
    let path = Path::new("data");
    let mut size = 0;
    for (key, value) in secret.data.iter().flatten() {
        super::invalid(names::config_key(key), key, &path.key(key), errors);
        size += value.0.len();
    }
    if size > MAX_SIZE {
        errors.push(Error::too_long(&path, MAX_SIZE));
    }
    secret_of_type(secret, &path, errors);
}

fn secret_of_type(secret: &api::Secret, path: &Path, errors: &mut Errors) {
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let mut need = |keys: &[&str]| {
        let absent = keys.iter().filter(|key| value(key).is_none());
        errors.extend(absent.map(|key| Error::required(&path.key(key), "")));
    };
    match text(&secret.type_) {
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            need(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/dockercfg" => registry_secret(secret, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => registry_secret(secret, ".dockerconfigjson", path, errors),
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = secret.metadata.annotations.as_ref();
            if annotations.and_then(|a| a.get(key)).is_none_or(String::is_empty) {
                errors.push(Error::required(&Path::new("metadata").child("annotations").key(key), ""));
            }
        }
        _ => {}
    }
}

fn registry_secret(secret: &api::Secret, key: &str, path: &Path, errors: &mut Errors) {
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        errors.push(Error::required(&path.key(key), ""));
        return;
    };
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&value.0) {
        errors.push(Error::invalid(&path.key(key), "<secret contents redacted>", error.to_string()));
    }
}

pub(crate) fn secret_update(new: &api::Secret, old: &api::Secret, errors: &mut Errors) {
    immutable(&new.type_, &old.type_, &Path::new("type"), errors);
    if old.immutable == Some(true) {
        frozen(&[("immutable", new.immutable != Some(true)), ("data", new.data != old.data)], errors);
    }
}

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub(crate) fn access_modes(modes: &Option<Vec<String>>, path: &Path, errors: &mut Errors) {
    let modes = modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.push(Error::required(path, "at least 1 access mode is required"));
    }
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(&mode.as_str())) {
        errors.push(Error::not_supported(path, mode.as_str(), ACCESS_MODES));
    }
    let alone = modes.iter().any(|mode| mode == "ReadWriteOncePod");
    if alone && modes.iter().any(|mode| mode != "ReadWriteOncePod") {
        errors.push(Error::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub(crate) fn claim_spec(spec: &api::PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    access_modes(&spec.access_modes, &path.child("accessModes"), errors);
    if let Some(selector) = &spec.selector {
        selectors::label_selector(selector, &path.child("selector"), errors);
    }
    let at = path.child("resources").key("storage");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.push(Error::required(&at, "")),
        Some(storage) => match Quantity::try_from(storage) {
            Ok(quantity) if quantity.sign() <= 0 => {
                errors.push(Error::invalid(&at, quantity.to_string(), "must be greater than zero"));
            }
            _ => resources::amount("storage", storage, &at, errors),
        },
    }
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        super::invalid(names::dns1123_subdomain(class), class, &path.child("storageClassName"), errors);
    }
    if let Some(mode) = &spec.volume_mode {
        one_of(mode, VOLUME_MODES, &path.child("volumeMode"), errors);
    }
}

/// After creation a claim may only grow.
pub(crate) fn claim_update(new: &api::PersistentVolumeClaim, old: &api::PersistentVolumeClaim, errors: &mut Errors) {
    let path = Path::new("spec");
    let (Some(wanted), Some(had)) = (&new.spec, &old.spec) else { return };
    let mut same = wanted.clone();
    same.resources.clone_from(&had.resources);
    same.volume_attributes_class_name.clone_from(&had.volume_attributes_class_name);
    if text(&had.volume_name).is_empty() {
        // binding writes these
        same.volume_name.clone_from(&had.volume_name);
        if had.storage_class_name.is_none() {
            same.storage_class_name.clone_from(&had.storage_class_name);
        }
    }
    if same != *had {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                      bound claims";
        errors.push(Error::forbidden(&path, detail));
    }
    let storage = |spec: &api::PersistentVolumeClaimSpec| {
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get("storage")).and_then(|written| Quantity::try_from(written).ok())
    };
    if let (Some(wanted), Some(had)) = (storage(wanted), storage(had))
        && wanted < had
    {
        let at = path.child("resources").child("requests").child("storage");
        errors.push(Error::forbidden(&at, "field can not be less than status.capacity"));
    }
}
