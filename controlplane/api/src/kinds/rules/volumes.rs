//! Defaults of volumes.
//!
//! Must not know: which pod they are of.

use k8s_openapi::api::core::v1 as core;

use super::{fill, pod_spec};

const MODE: i32 = 0o644;

pub(super) fn fill(volume: &mut core::Volume) {
    if *volume == (core::Volume { name: volume.name.clone(), ..core::Volume::default() }) {
        volume.empty_dir = Some(core::EmptyDirVolumeSource::default());
        return;
    }
    if let Some(path) = &mut volume.host_path {
        fill::value(&mut path.type_, String::new());
    }
    if let Some(secret) = &mut volume.secret {
        fill::value(&mut secret.default_mode, MODE);
    }
    if let Some(map) = &mut volume.config_map {
        fill::value(&mut map.default_mode, MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        fill::value(&mut downward.default_mode, MODE);
        fill_items(&mut downward.items);
    }
    volume.projected.iter_mut().for_each(fill_projected);
    if let Some(image) = &mut volume.image {
        let policy = pod_spec::pull_policy(image.reference.as_deref().unwrap_or_default());
        fill::text(&mut image.pull_policy, policy);
    }
    if let Some(claim) = volume.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
        fill_claim(&mut claim.spec);
    }
    fill_network_storage(volume);
}

pub(super) fn fill_claim(spec: &mut core::PersistentVolumeClaimSpec) {
    fill::text(&mut spec.volume_mode, "Filesystem");
    if let Some(resources) = &mut spec.resources {
        fill::resources(&mut resources.limits);
        fill::resources(&mut resources.requests);
    }
}

fn fill_items(items: &mut Option<Vec<core::DownwardAPIVolumeFile>>) {
    for field in fill::each(items).filter_map(|item| item.field_ref.as_mut()) {
        fill::text(&mut field.api_version, "v1");
    }
}

fn fill_projected(projected: &mut core::ProjectedVolumeSource) {
    fill::value(&mut projected.default_mode, MODE);
    for source in fill::each(&mut projected.sources) {
        if let Some(downward) = &mut source.downward_api {
            fill_items(&mut downward.items);
        }
        if let Some(token) = &mut source.service_account_token {
            fill::value(&mut token.expiration_seconds, 3600);
        }
    }
}

fn fill_network_storage(volume: &mut core::Volume) {
    if let Some(iscsi) = &mut volume.iscsi {
        fill::text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        fill::text(&mut rbd.pool, "rbd");
        fill::text(&mut rbd.user, "admin");
        fill::text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    volume.azure_disk.iter_mut().for_each(fill_azure_disk);
    if let Some(scale_io) = &mut volume.scale_io {
        fill::text(&mut scale_io.storage_mode, "ThinProvisioned");
        fill::text(&mut scale_io.fs_type, "xfs");
    }
}

pub(super) fn fill_azure_disk(disk: &mut core::AzureDiskVolumeSource) {
    fill::value(&mut disk.caching_mode, "ReadWrite".to_owned());
    fill::value(&mut disk.fs_type, "ext4".to_owned());
    fill::value(&mut disk.read_only, false);
    fill::value(&mut disk.kind, "Shared".to_owned());
}
