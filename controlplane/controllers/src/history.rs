//! ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, as `kubectl rollout` reads them.
//!
//! Must not know: the API, clocks, how templates are rolled out.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::hash;

/// The label of pods and revisions that names the revision.
pub const HASH: &str = "controller-revision-hash";

/// What has to be done so that the template has a revision, and it is the latest.
#[derive(Debug, PartialEq)]
pub enum Change {
    None,
    Create(ControllerRevision),
    /// An old template came back: its revision becomes the latest.
    Renumber(ControllerRevision),
}

/// An owner's revisions, oldest first.
pub fn sorted(mut revisions: Vec<Arc<ControllerRevision>>) -> Vec<Arc<ControllerRevision>> {
    revisions.sort_by_key(|revision| {
        (revision.revision, revision.metadata.creation_timestamp.clone(), revision.metadata.name.clone())
    });
    revisions
}

/// The revision of the template, and what to do about it. `owner` names the revisions' owner, `labels` are the
/// template's.
pub fn current(
    template: &PodTemplateSpec,
    owner: &ObjectMeta,
    reference: OwnerReference,
    revisions: &[Arc<ControllerRevision>],
    collisions: Option<i32>,
) -> (ControllerRevision, Change) {
    let data = data(template);
    let next = revisions.iter().map(|revision| revision.revision).max().unwrap_or(0) + 1;
    let equal = revisions.iter().rev().find(|revision| revision.data.as_ref().map(|data| &data.0) == Some(&data));
    match equal {
        Some(equal) if equal.revision + 1 == next => (equal.as_ref().clone(), Change::None),
        Some(equal) => {
            let renumbered = ControllerRevision { revision: next, ..equal.as_ref().clone() };
            (renumbered.clone(), Change::Renumber(renumbered))
        }
        None => {
            let new = new(data, template, owner, reference, next, collisions);
            (new.clone(), Change::Create(new))
        }
    }
}

/// A strategic merge patch that puts this template in place of any other.
fn data(template: &PodTemplateSpec) -> Value {
    // every API type can be serialized
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn new(
    data: Value,
    template: &PodTemplateSpec,
    owner: &ObjectMeta,
    reference: OwnerReference,
    revision: i64,
    collisions: Option<i32>,
) -> ControllerRevision {
    let hash = hash::of_template(&data, collisions);
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH.into(), hash.clone());
    let name = owner.name.as_deref().unwrap_or_default();
    ControllerRevision {
        metadata: ObjectMeta {
            // as upstream, so that the name stays within its limit
            name: Some(format!("{}-{hash}", name.get(..223).unwrap_or(name))),
            namespace: owner.namespace.clone(),
            labels: Some(labels),
            annotations: owner.annotations.clone(),
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision,
    }
}

/// The hash that names a revision on pods.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    revision.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).map(String::as_str).unwrap_or_default()
}

/// The template that a revision holds.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The oldest revisions over the limit; those in use stay.
pub fn surplus(
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let idle: Vec<&Arc<ControllerRevision>> = revisions.iter().filter(|revision| !in_use(revision)).collect();
    let over = idle.len().saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or(0));
    idle.into_iter().take(over).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        let spec =
            json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
        serde_json::from_value(spec).unwrap()
    }

    fn owner() -> ObjectMeta {
        ObjectMeta { name: Some("agent".into()), ..ObjectMeta::default() }
    }

    #[test]
    fn a_template_gets_a_revision_and_a_returning_one_becomes_the_latest_again() {
        let mut all: Vec<Arc<ControllerRevision>> = Vec::new();
        for (image, expected) in [("a:1", 1), ("a:2", 2)] {
            let (_, change) = current(&template(image), &owner(), OwnerReference::default(), &all, None);
            let Change::Create(new) = change else { panic!("creates it") };
            assert_eq!(new.revision, expected);
            assert_eq!(template_of(&new), Some(template(image)));
            all.push(Arc::new(new));
        }
        let (_, change) = current(&template("a:2"), &owner(), OwnerReference::default(), &all, None);
        assert_eq!(change, Change::None);
        let (back, change) = current(&template("a:1"), &owner(), OwnerReference::default(), &all, None);
        assert_eq!((back.revision, hash_of(&back)), (3, hash_of(&all[0])));
        assert!(matches!(change, Change::Renumber(_)));
        assert_eq!(surplus(&all, Some(0), |revision| revision.revision == 2).len(), 1);
    }
}
