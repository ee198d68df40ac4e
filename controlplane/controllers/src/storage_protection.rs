//! Lets claims and volumes go that are being deleted, once nobody uses them: a claim no pod, a volume no claim.
//!
//! Must not know: who provisions, attaches or mounts.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource};
use pintle_client::{Change, ObjectKey};
use serde::Serialize;

use crate::context::Context;
use crate::work::Outcome;
use crate::{api, pods};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// Whether the object only waits for our finalizer's removal.
fn waits(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().any(|one| one == finalizer)
}

/// The claims that the pod's volumes are.
fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| claim_of(pod, volume))
}

fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    match &volume.persistent_volume_claim {
        Some(claim) => Some(claim.claim_name.clone()),
        None => volume.ephemeral.as_ref().map(|_| format!("{}-{}", pods::name(pod), volume.name)),
    }
}

/// A pod that is on no node has mounted nothing and will not: a kubelet mounts no claim that is being deleted. A pod
/// that has ended keeps its claim, as upstream has it, until it is deleted; an ephemeral one it does not keep.
fn uses(pod: &Pod, claim: &str) -> bool {
    let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = |volume: &Volume| claim_of(pod, volume).as_deref() == Some(claim);
    let holds = |volume: &Volume| volume.ephemeral.is_none() || !pods::is_terminal(pod);
    !pods::node_name(pod).is_empty() && volumes().any(|volume| holds(volume) && named(volume))
}

/// Takes the finalizer off the object as it is now. An update, not a patch: that is what these controllers' roles allow.
async fn release<K>(objects: Api<K>, meta: &ObjectMeta, finalizer: &str) -> anyhow::Result<()>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + serde::de::DeserializeOwned,
{
    let name = meta.name.as_deref().unwrap_or_default();
    let Some(mut object) = objects.get_opt(name).await.context("reading what waits for the finalizer")? else {
        return Ok(());
    };
    if object.meta().uid != meta.uid {
        return Ok(());
    }
    if let Some(finalizers) = &mut object.meta_mut().finalizers {
        finalizers.retain(|one| one != finalizer);
    }
    let updated = objects.replace(name, &PostParams::default(), &object).await;
    api::ignore_not_found(updated).context("removing the finalizer")
}

struct Claims {
    context: Context,
    client: Client,
}

pub async fn claims(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.claims.synced(), caches.pods.synced());
    let queue = context.queue("pvcprotection");
    context.feed(&caches.claims, &queue, |change| {
        let claim = change.object();
        if waits(&claim.metadata, CLAIM) { vec![ObjectKey::of(claim.as_ref())] } else { Vec::new() }
    });
    let all = caches.claims.clone();
    context.feed(&caches.pods, &queue, move |change| {
        let pod = change.object();
        let done = matches!(change, Change::Deleted(_)) || pods::is_terminal(pod);
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let mut freed: Vec<String> = if done { claims_of(pod).collect() } else { Vec::new() };
        freed.retain(|name| all.get(&namespace, name).is_some_and(|claim| waits(&claim.metadata, CLAIM)));
        freed.into_iter().map(|name| ObjectKey::new(namespace.clone(), name)).collect()
    });
    let client = context.client("pvc-protection-controller");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Claims { context, client });
    queue.run(2, cancel, |key| controller.clone().sync(key)).await;
}

impl Claims {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        let caches = &self.context.caches;
        let Some(claim) = caches.claims.get(&key.namespace, &key.name) else { return Ok(None) };
        let used = |pod: &Arc<Pod>| uses(pod, &key.name);
        if !waits(&claim.metadata, CLAIM) || caches.pods.list_namespace(&key.namespace).iter().any(used) {
            return Ok(None);
        }
        // the cache may lag behind a pod that was bound a moment ago
        let live = api::namespaced::<Pod>(&self.client, &key.namespace).list(&ListParams::default()).await;
        if live.context("looking for pods that use the claim")?.items.iter().any(|pod| uses(pod, &key.name)) {
            return Ok(None);
        }
        let claims = api::namespaced::<PersistentVolumeClaim>(&self.client, &key.namespace);
        release(claims, &claim.metadata, CLAIM).await?;
        Ok(None)
    }
}

pub async fn volumes(context: Context) {
    let volumes = context.caches.volumes.clone();
    volumes.synced().await;
    let queue = context.queue("pvprotection");
    context.feed(&volumes, &queue, |change| {
        let volume = change.object();
        if waits(&volume.metadata, VOLUME) { vec![ObjectKey::of(volume.as_ref())] } else { Vec::new() }
    });
    let client = context.client("pv-protection-controller");
    let sync = move |key: ObjectKey| {
        let (volumes, client) = (volumes.clone(), client.clone());
        async move {
            let Some(volume) = volumes.get("", &key.name) else { return Ok(None) };
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            if waits(&volume.metadata, VOLUME) && phase != Some("Bound") {
                release(Api::<PersistentVolume>::all(client), &volume.metadata, VOLUME).await?;
            }
            Ok(None)
        }
    };
    queue.run(2, context.cancel.clone(), sync).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_used_by_pods_that_are_on_a_node() {
        let pod = |node: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": { "phase": phase }, "spec": {
                "nodeName": node, "containers": [], "volumes": [
                    { "name": "a", "persistentVolumeClaim": { "claimName": "data" } }, { "name": "b", "ephemeral": {} }] } }))
            .unwrap()
        };
        assert!(uses(&pod("n", "Running"), "data") && uses(&pod("n", "Running"), "p-b"));
        assert!(!uses(&pod("", "Pending"), "data") && uses(&pod("n", "Succeeded"), "data"));
        assert!(!uses(&pod("n", "Succeeded"), "p-b"));
        assert!(!uses(&pod("n", "Running"), "other"));
    }
}
