//! The core group without pods and Services.
//!
//! Must not know: controllers.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{fill, pod_spec, volumes};
use crate::field::{Errors, Path};
use crate::kinds::{Rules, StatusRule};
use crate::validation::{cluster, core as checks, extensions, pod};

pub(super) struct ConfigMap;

impl Rules for ConfigMap {
    type Object = core::ConfigMap;
    const PREPARES: bool = false;
    const DEFAULTS: bool = false;
    const STATUS: StatusRule = StatusRule::None;

    fn validate(object: &core::ConfigMap, errors: &mut Errors) {
        checks::config_map(object, errors);
    }

    fn validate_update(new: &core::ConfigMap, old: &core::ConfigMap, _subresource: &str, errors: &mut Errors) {
        checks::config_map_update(new, old, errors);
    }
}

pub(super) struct Secret;

impl Rules for Secret {
    type Object = core::Secret;
    const PREPARES: bool = false;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(secret: &mut core::Secret) {
        fill::text(&mut secret.type_, "Opaque");
        // written as text, kept as bytes
        for (key, text) in secret.string_data.take().into_iter().flatten() {
            secret.data.get_or_insert_default().insert(key, k8s_openapi::ByteString(text.into_bytes()));
        }
    }

    fn validate(object: &core::Secret, errors: &mut Errors) {
        checks::secret(object, errors);
    }

    fn validate_update(new: &core::Secret, old: &core::Secret, _subresource: &str, errors: &mut Errors) {
        checks::secret_update(new, old, errors);
    }
}

pub(super) struct Namespace;

impl Rules for Namespace {
    type Object = core::Namespace;

    fn defaults(namespace: &mut core::Namespace) {
        fill_name_label(&mut namespace.metadata);
        fill::text(&mut namespace.status.get_or_insert_default().phase, "Active");
    }

    fn prepare_create(namespace: &mut core::Namespace) {
        // a generated name is known only now
        fill_name_label(&mut namespace.metadata);
        namespace.status = Some(core::NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == "kubernetes") {
            finalizers.push("kubernetes".to_owned());
        }
    }

    fn prepare_update(new: &mut core::Namespace, old: &core::Namespace, subresource: &str) {
        if subresource != "finalize" {
            new.spec.clone_from(&old.spec);
        }
    }
}

fn fill_name_label(metadata: &mut ObjectMeta) {
    if let Some(name) = metadata.name.clone().filter(|name| !name.is_empty()) {
        metadata.labels.get_or_insert_default().insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}

pub(super) struct Node;

impl Rules for Node {
    type Object = core::Node;
    const STATUS: StatusRule = StatusRule::KeptOnCreate;

    fn defaults(node: &mut core::Node) {
        let Some(status) = &mut node.status else { return };
        fill::resources(&mut status.capacity);
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
        fill::resources(&mut status.allocatable);
    }

    fn validate(object: &core::Node, errors: &mut Errors) {
        cluster::node(object, errors);
    }

    fn validate_update(new: &core::Node, old: &core::Node, _subresource: &str, errors: &mut Errors) {
        cluster::node_update(new, old, errors);
    }
}

pub(super) struct Endpoints;

impl Rules for Endpoints {
    type Object = core::Endpoints;
    const PREPARES: bool = false;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(endpoints: &mut core::Endpoints) {
        for subset in fill::each(&mut endpoints.subsets) {
            for port in fill::each(&mut subset.ports) {
                fill::text(&mut port.protocol, "TCP");
            }
        }
    }

    fn validate(object: &core::Endpoints, errors: &mut Errors) {
        extensions::endpoints(object, errors);
    }
}

pub(super) struct PersistentVolume;

impl Rules for PersistentVolume {
    type Object = core::PersistentVolume;

    fn defaults(volume: &mut core::PersistentVolume) {
        fill::text(&mut volume.status.get_or_insert_default().phase, "Pending");
        let spec = volume.spec.get_or_insert_default();
        fill::text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        fill::text(&mut spec.volume_mode, "Filesystem");
        fill::resources(&mut spec.capacity);
        if let Some(path) = &mut spec.host_path {
            fill::value(&mut path.type_, String::new());
        }
        if let Some(iscsi) = &mut spec.iscsi {
            fill::text(&mut iscsi.iscsi_interface, "default");
        }
        if let Some(rbd) = &mut spec.rbd {
            fill::text(&mut rbd.pool, "rbd");
            fill::text(&mut rbd.user, "admin");
            fill::text(&mut rbd.keyring, "/etc/ceph/keyring");
        }
        spec.azure_disk.iter_mut().for_each(volumes::fill_azure_disk);
        if let Some(scale_io) = &mut spec.scale_io {
            fill::text(&mut scale_io.storage_mode, "ThinProvisioned");
            fill::text(&mut scale_io.fs_type, "xfs");
        }
    }

    fn prepare_create(volume: &mut core::PersistentVolume) {
        volume.status = Some(core::PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            // it enters its first phase when it is made
            last_phase_transition_time: volume.metadata.creation_timestamp.clone(),
            ..core::PersistentVolumeStatus::default()
        });
    }

    fn validate(object: &core::PersistentVolume, errors: &mut Errors) {
        cluster::persistent_volume(object, errors);
    }
}

pub(super) struct PersistentVolumeClaim;

impl Rules for PersistentVolumeClaim {
    type Object = core::PersistentVolumeClaim;

    fn defaults(claim: &mut core::PersistentVolumeClaim) {
        fill::text(&mut claim.status.get_or_insert_default().phase, "Pending");
        volumes::fill_claim(claim.spec.get_or_insert_default());
    }

    fn prepare_create(claim: &mut core::PersistentVolumeClaim) {
        let phase = Some("Pending".to_owned());
        claim.status =
            Some(core::PersistentVolumeClaimStatus { phase, ..core::PersistentVolumeClaimStatus::default() });
        let spec = claim.spec.get_or_insert_default();
        // the two spell the same source; the older one cannot name a namespace
        if spec.data_source_ref.is_none() {
            spec.data_source_ref = spec.data_source.as_ref().map(|source| core::TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        } else if let Some(source) = spec.data_source_ref.as_ref().filter(|source| source.namespace.is_none()) {
            let (api_group, kind, name) = (source.api_group.clone(), source.kind.clone(), source.name.clone());
            fill::value(&mut spec.data_source, core::TypedLocalObjectReference { api_group, kind, name });
        }
    }

    fn validate(claim: &core::PersistentVolumeClaim, errors: &mut Errors) {
        if let Some(spec) = &claim.spec {
            checks::claim_spec(spec, &Path::new("spec"), errors);
        }
    }

    fn validate_update(
        new: &core::PersistentVolumeClaim,
        old: &core::PersistentVolumeClaim,
        _subresource: &str,
        errors: &mut Errors,
    ) {
        checks::claim_update(new, old, errors);
    }
}

pub(super) struct LimitRange;

impl Rules for LimitRange {
    type Object = core::LimitRange;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(range: &mut core::LimitRange) {
        for item in range.spec.iter_mut().flat_map(|spec| spec.limits.iter_mut()) {
            if item.type_ == "Container" {
                // max, then default, then min: each fills what the one before left open
                fill::missing(&mut item.default, &item.max.clone().unwrap_or_default());
                fill::missing(&mut item.default_request, &item.default.clone().unwrap_or_default());
                fill::missing(&mut item.default_request, &item.min.clone().unwrap_or_default());
            }
            let lists = [&mut item.max, &mut item.min, &mut item.default, &mut item.default_request];
            lists.into_iter().for_each(fill::resources);
            fill::resources(&mut item.max_limit_request_ratio);
        }
    }

    fn validate(object: &core::LimitRange, errors: &mut Errors) {
        cluster::limit_range(object, errors);
    }
}

pub(super) struct ResourceQuota;

impl Rules for ResourceQuota {
    type Object = core::ResourceQuota;

    fn defaults(quota: &mut core::ResourceQuota) {
        if let Some(spec) = &mut quota.spec {
            fill::resources(&mut spec.hard);
        }
        if let Some(status) = &mut quota.status {
            fill::resources(&mut status.hard);
            fill::resources(&mut status.used);
        }
    }

    fn validate(object: &core::ResourceQuota, errors: &mut Errors) {
        cluster::resource_quota(object, errors);
    }
}

pub(super) struct PodTemplate;

impl Rules for PodTemplate {
    type Object = core::PodTemplate;
    const STATUS: StatusRule = StatusRule::None;

    fn defaults(template: &mut core::PodTemplate) {
        pod_spec::fill_template(template.template.get_or_insert_default());
    }

    fn validate(template: &core::PodTemplate, errors: &mut Errors) {
        if let Some(template) = &template.template {
            pod::template(template, &Path::new("template"), errors);
        }
    }
}
