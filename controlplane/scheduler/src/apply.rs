//! What follows from a decision: the binding, the condition on the pod, who is preempted.
//!
//! Must not know: how it was decided.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::plan::pod::PodInfo;

/// Binds the pod to its node (`pod.node`).
pub async fn bind(client: kube::Client, pod: &PodInfo) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        // with its UID, so that no later pod of that name is bound
        "metadata": { "namespace": pod.namespace, "name": pod.name, "uid": pod.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": pod.node },
    });
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
    api.create_subresource::<_, Value>("binding", &pod.name, &PostParams::default(), &body).await.map(drop)
}

/// What becomes of the node that a pod was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nomination {
    Keep,
    Clear,
    To(String),
}

/// Sets the condition PodScheduled to false, and the node that the pod is promised.
pub async fn not_scheduled(
    client: kube::Client,
    pod: &PodInfo,
    reason: &str,
    message: &str,
    nomination: &Nomination,
) -> Result<(), kube::Error> {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let mut patch = json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [condition] } });
    match nomination {
        Nomination::Keep => {}
        Nomination::Clear => patch["status"]["nominatedNodeName"] = Value::Null,
        Nomination::To(node) => patch["status"]["nominatedNodeName"] = node.as_str().into(),
    }
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
    api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
}

/// Takes back what a pod was promised.
pub async fn clear_nomination(client: kube::Client, pod: &PodInfo) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "nominatedNodeName": null } });
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
    api.patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Says on the pod why it goes, and deletes it. One that is gone already is fine.
pub async fn preempt(client: kube::Client, victim: &PodInfo, scheduler: &str) -> Result<(), kube::Error> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastProbeTime": null, "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let patch = json!({ "metadata": { "uid": victim.uid }, "status": { "conditions": [condition] } });
    let api: Api<Pod> = Api::namespaced(client, &victim.namespace);
    let only = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    let done = match api.patch_status(&victim.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => api.delete(&victim.name, &parameters).await.map(drop),
        Err(error) => Err(error),
    };
    match done {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

pub fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}
