//! What follows from a decision: the binding, the condition on the pod.
//!
//! Must not know: how it was decided.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
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

/// Sets the condition PodScheduled to false.
pub async fn not_scheduled(
    client: kube::Client,
    pod: &PodInfo,
    reason: &str,
    message: &str,
) -> Result<(), kube::Error> {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [condition] } });
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
    api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
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
