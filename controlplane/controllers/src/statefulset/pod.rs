//! A StatefulSet's pod and its claims: named by ordinal, so that they find each other again.
//!
//! Must not know: the API, clocks.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use crate::history::HASH;
use crate::{owner, pod_control};

pub fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The pod of an ordinal, of the template that a revision holds.
pub fn new(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let (namespace, parent) = (set.metadata.namespace.as_deref(), set.metadata.name.as_deref());
    let reference = owner::controller_reference(set);
    let mut pod =
        pod_control::from_template(template, namespace.unwrap_or_default(), parent.unwrap_or_default(), reference);
    let name = name(set, ordinal);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert("statefulset.kubernetes.io/pod-name".into(), name.clone());
    labels.insert("apps.kubernetes.io/pod-index".into(), ordinal.to_string());
    labels.insert(HASH.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|name| !name.is_empty());
    let claims = claims(set, ordinal);
    let volumes = spec.volumes.get_or_insert_default();
    for (volume, claim) in claims {
        volumes.retain(|own| own.name != volume);
        let claim_name = claim.metadata.name.unwrap_or_default();
        let source = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
        volumes.push(Volume { name: volume, persistent_volume_claim: Some(source), ..Volume::default() });
    }
    spec.volumes.take_if(|volumes| volumes.is_empty());
    pod
}

/// The claims of an ordinal, each with the name of its volume.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let Some(spec) = set.spec.as_ref() else { return Vec::new() };
    let labels = spec.selector.match_labels.clone().unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let volume = template.metadata.name.clone().unwrap_or_default();
        let mut claim = template.clone();
        claim.status = None;
        claim.metadata.name = Some(format!("{volume}-{}", name(set, ordinal)));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        claim.metadata.labels.get_or_insert_default().extend(labels.clone());
        (volume, claim)
    };
    spec.volume_claim_templates.iter().flatten().map(claim).collect()
}
