//! Volumes of pods, and where containers mount them.
//!
//! Must not know: how they are mounted.

use k8s_openapi::api::core::v1 as core;

use super::super::{invalid, names, required, shown, text};
use super::env;
use crate::field::{Error, Errors, Path};

const DOWNWARD_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks all volumes; answers those that are sound, for mounts to refer to.
pub(super) fn all<'a>(volumes: &'a [core::Volume], path: &Path, errors: &mut Errors) -> Vec<&'a core::Volume> {
    let mut sound: Vec<&core::Volume> = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let (at, before) = (path.index(i), errors.len());
        one_source(volume, &at, errors);
        files_from_objects(volume, &at, errors);
        named_sources(volume, &at, errors);
        let at = at.child("name");
        required(&volume.name, &at, errors);
        if !volume.name.is_empty() {
            invalid(names::dns1123_label(&volume.name), &volume.name, &at, errors);
        }
        if sound.iter().any(|other| other.name == volume.name) {
            errors.push(Error::duplicate(&at, volume.name.as_str()));
        }
        if errors.len() == before {
            sound.push(volume);
        }
    }
    sound
}

fn one_source(volume: &core::Volume, path: &Path, errors: &mut Errors) {
    let as_value = shown(volume);
    let fields = as_value.as_object().into_iter().flatten().map(|(field, _)| field);
    let sources: Vec<&String> = fields.filter(|field| *field != "name").collect();
    if sources.is_empty() {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    for more in sources.iter().skip(1) {
        errors.push(Error::forbidden(&path.child(more), "may not specify more than 1 volume type"));
    }
}

fn files_from_objects(volume: &core::Volume, path: &Path, errors: &mut Errors) {
    if let Some(secret) = &volume.secret {
        let at = path.child("secret");
        required(text(&secret.secret_name), &at.child("secretName"), errors);
        mode(secret.default_mode, &at.child("defaultMode"), errors);
        items(&secret.items, &at.child("items"), errors);
    }
    if let Some(map) = &volume.config_map {
        let at = path.child("configMap");
        required(&map.name, &at.child("name"), errors);
        mode(map.default_mode, &at.child("defaultMode"), errors);
        items(&map.items, &at.child("items"), errors);
    }
    if let Some(downward) = &volume.downward_api {
        let at = path.child("downwardAPI");
        mode(downward.default_mode, &at.child("defaultMode"), errors);
        downward_files(&downward.items, &at, errors);
    }
    if let Some(projected) = &volume.projected {
        self::projected(projected, &path.child("projected"), errors);
    }
}

fn named_sources(volume: &core::Volume, path: &Path, errors: &mut Errors) {
    if let Some(host) = &volume.host_path {
        host_path(host, &path.child("hostPath"), errors);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        required(&claim.claim_name, &path.child("persistentVolumeClaim").child("claimName"), errors);
    }
    if let Some(nfs) = &volume.nfs {
        let at = path.child("nfs");
        required(&nfs.server, &at.child("server"), errors);
        required(&nfs.path, &at.child("path"), errors);
        if !nfs.path.is_empty() && !nfs.path.starts_with('/') {
            errors.push(Error::invalid(&at.child("path"), nfs.path.as_str(), "must be an absolute path"));
        }
    }
    if let Some(csi) = &volume.csi {
        required(&csi.driver, &path.child("csi").child("driver"), errors);
    }
    if let Some(image) = &volume.image {
        required(text(&image.reference), &path.child("image").child("reference"), errors);
    }
}

fn mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.push(Error::invalid(path, mode, FILE_MODE));
    }
}

fn host_path(host: &core::HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    if host.path.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
        return;
    }
    if host.path.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(&path.child("path"), host.path.as_str(), "must not contain '..'"));
    }
    let type_ = text(&host.type_);
    if !HOST_PATH_TYPES.contains(&type_) {
        errors.push(Error::not_supported(&path.child("type"), type_, HOST_PATH_TYPES));
    }
}

fn items(items: &Option<Vec<core::KeyToPath>>, path: &Path, errors: &mut Errors) {
    for (i, item) in items.iter().flatten().enumerate() {
        let at = path.index(i);
        required(&item.key, &at.child("key"), errors);
        required(&item.path, &at.child("path"), errors);
        below(&item.path, &at.child("path"), errors);
        mode(item.mode, &at.child("mode"), errors);
    }
}

fn downward_files(files: &Option<Vec<core::DownwardAPIVolumeFile>>, path: &Path, errors: &mut Errors) {
    for file in files.iter().flatten() {
        required(&file.path, &path.child("path"), errors);
        below(&file.path, &path.child("path"), errors);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), None) => env::field_ref(field, DOWNWARD_FIELDS, &path.child("fieldRef"), errors),
            (None, Some(resource)) => {
                let at = path.child("resourceFieldRef");
                required(text(&resource.container_name), &at.child("containerName"), errors);
                env::resource_ref(resource, &at, errors);
            }
            (Some(_), Some(_)) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
            (None, None) => errors.push(Error::required(path, "one of fieldRef and resourceFieldRef is required")),
        }
        mode(file.mode, &path.child("mode"), errors);
    }
}

fn projected(projected: &core::ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    mode(projected.default_mode, &path.child("defaultMode"), errors);
    for (i, source) in projected.sources.iter().flatten().enumerate() {
        let at = path.child("sources").index(i);
        if let Some(secret) = &source.secret {
            required(&secret.name, &at.child("secret").child("name"), errors);
            items(&secret.items, &at.child("secret").child("items"), errors);
        }
        if let Some(map) = &source.config_map {
            required(&map.name, &at.child("configMap").child("name"), errors);
            items(&map.items, &at.child("configMap").child("items"), errors);
        }
        if let Some(downward) = &source.downward_api {
            downward_files(&downward.items, &at.child("downwardAPI"), errors);
        }
        if let Some(token) = &source.service_account_token {
            token_projection(token, path, &at.child("serviceAccountToken"), errors);
        }
        if shown(source).as_object().is_some_and(|source| source.len() > 1) {
            errors.push(Error::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
}

fn token_projection(token: &core::ServiceAccountTokenProjection, volume: &Path, path: &Path, errors: &mut Errors) {
    let seconds = token.expiration_seconds.unwrap_or(3600);
    let detail = match seconds {
        ..600 => Some("may not specify a duration less than 10 minutes"),
        0x1_0000_0001.. => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(detail) = detail {
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    // upstream names the volume here, not the source
    required(&token.path, &volume.child("path"), errors);
    below(&token.path, &volume.child("path"), errors);
}

/// A path that stays below the volume and out of what the kubelet reserves.
fn below(path: &str, at: &Path, errors: &mut Errors) {
    let before = errors.len();
    descending(path, at, errors);
    if errors.len() == before && path.starts_with("..") {
        errors.push(Error::invalid(at, path, "must not start with '..'"));
    }
}

fn descending(path: &str, at: &Path, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.push(Error::invalid(at, path, "must be a relative path"));
    }
    if path.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(at, path, "must not contain '..'"));
    }
}

/// Mounts and devices of one container; `volumes` are those that it may name.
pub(super) fn mounts(container: &core::Container, volumes: &[&core::Volume], path: &Path, errors: &mut Errors) {
    let privileged = container.security_context.as_ref().is_some_and(|c| c.privileged == Some(true));
    let at = path.child("volumeMounts");
    let mut points: Vec<&str> = Vec::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let item = at.index(i);
        named_volume(&mount.name, volumes, &item.child("name"), errors);
        required(&mount.mount_path, &item.child("mountPath"), errors);
        if points.contains(&mount.mount_path.as_str()) {
            let bad = mount.mount_path.as_str();
            errors.push(Error::invalid(&item.child("mountPath"), bad, "must be unique"));
        }
        points.push(&mount.mount_path);
        // upstream names the list here, not the mount
        for (field, sub) in [("subPath", text(&mount.sub_path)), ("subPathExpr", text(&mount.sub_path_expr))] {
            descending(sub, &at.child(field), errors);
        }
        if let Some(propagation) = &mount.mount_propagation {
            mount_propagation(propagation, privileged, &at.child("mountPropagation"), errors);
        }
        recursive_read_only(mount, &at.child("recursiveReadOnly"), errors);
    }
    for (i, device) in container.volume_devices.iter().flatten().enumerate() {
        let item = path.child("volumeDevices").index(i);
        named_volume(&device.name, volumes, &item.child("name"), errors);
        required(&device.device_path, &item.child("devicePath"), errors);
    }
}

fn named_volume(name: &str, volumes: &[&core::Volume], path: &Path, errors: &mut Errors) {
    required(name, path, errors);
    if !volumes.iter().any(|volume| volume.name == name) {
        errors.push(Error::not_found(path, name));
    }
}

fn recursive_read_only(mount: &core::VolumeMount, path: &Path, errors: &mut Errors) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.push(Error::forbidden(path, "may only be specified when readOnly is true"));
            }
            if mount.mount_propagation.as_deref().is_some_and(|propagation| propagation != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(path, detail));
            }
        }
        Some(other) => errors.push(Error::not_supported(path, other, &["Disabled", "Enabled", "IfPossible"])),
    }
}

fn mount_propagation(propagation: &str, privileged: bool, path: &Path, errors: &mut Errors) {
    let supported = ["Bidirectional", "HostToContainer", "None"];
    if !supported.contains(&propagation) {
        errors.push(Error::not_supported(path, propagation, &supported));
    }
    if propagation == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(path, detail));
    }
}
