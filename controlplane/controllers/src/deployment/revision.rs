//! Which ReplicaSet has which revision: annotations, the template's hash, the new and the old ones.
//!
//! Must not know: the API, clocks, scaling.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::scale;
use crate::{hash, owner};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// The revision history annotation's longest value.
const HISTORY_LENGTH: usize = 2000;
/// The longest name an object may have.
const NAME_LENGTH: usize = 253;

/// Whether two templates differ in nothing but the hash label.
pub fn same_template(left: &PodTemplateSpec, right: &PodTemplateSpec) -> bool {
    without_hash(left) == without_hash(right)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = meta.labels.as_mut() {
        labels.remove(HASH);
    }
    meta.labels.take_if(|labels| labels.is_empty());
    meta.annotations.take_if(|annotations| annotations.is_empty());
    meta.creation_timestamp = None;
    template
}

/// The set that has the Deployment's template; of several the oldest.
pub fn find_new(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Arc<ReplicaSet>> {
    let template = &deployment.spec.as_ref()?.template;
    let same = |set: &&Arc<ReplicaSet>| set.spec.as_ref()?.template.as_ref().map(|own| same_template(own, template));
    let matching = sets.iter().filter(|set| same(set) == Some(true));
    matching.min_by(|left, right| by_age(left, right)).cloned()
}

/// Oldest first.
pub fn by_age(left: &ReplicaSet, right: &ReplicaSet) -> std::cmp::Ordering {
    let key = |set: &ReplicaSet| (set.metadata.creation_timestamp.clone(), set.metadata.name.clone());
    key(left).cmp(&key(right))
}

pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The revision of an object, 0 where none is given.
pub fn number(meta: &ObjectMeta) -> i64 {
    annotation(meta, REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// How many replicas the Deployment wanted when this set was last scaled for it.
pub fn desired_replicas(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, DESIRED_REPLICAS)?.parse().ok()
}

/// How many replicas the Deployment could have had at most when this set was last scaled for it.
pub fn max_replicas(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, MAX_REPLICAS)?.parse().ok()
}

pub fn set_replicas_annotations(set: &mut ReplicaSet, deployment: &Deployment) {
    let wanted = scale::replicas(deployment);
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.into(), wanted.to_string());
    annotations.insert(MAX_REPLICAS.into(), (wanted + scale::max_surge(deployment)).to_string());
}

/// Copies the Deployment's annotations and gives the set its revision; an older revision goes into its history.
pub fn annotate(set: &mut ReplicaSet, deployment: &Deployment, revision: i64) {
    let copied = deployment.metadata.annotations.iter().flatten();
    let copied: BTreeMap<String, String> = copied
        .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.extend(copied);
    let old = annotations.get(REVISION).cloned();
    let old_number: i64 = match old.as_deref().map(str::parse) {
        Some(Ok(number)) => number,
        Some(Err(_)) => return,
        None => 0,
    };
    if old_number >= revision {
        return;
    }
    annotations.insert(REVISION.into(), revision.to_string());
    if let Some(old) = old {
        let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
        annotations.insert(REVISION_HISTORY.into(), with_history(&history, &old));
    }
}

fn with_history(history: &str, revision: &str) -> String {
    let mut all: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    all.push(revision);
    let length = |all: &[&str]| all.iter().map(|part| part.len() + 1).sum::<usize>();
    while length(&all) > HISTORY_LENGTH {
        all.remove(0);
    }
    all.join(",")
}

/// The ReplicaSet of the Deployment's template, with `replicas` and its revision.
pub fn new_set(deployment: &Deployment, replicas: i32, revision: i64) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::of_template(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(deployment.metadata.name.as_deref()?, &hash)),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(&mut set, deployment, revision);
    set_replicas_annotations(&mut set, deployment);
    Some(set)
}

fn set_name(deployment: &str, hash: &str) -> String {
    let fits = deployment.len().min(NAME_LENGTH - hash.len() - 1);
    format!("{}-{hash}", deployment.get(..fits).unwrap_or(deployment))
}
