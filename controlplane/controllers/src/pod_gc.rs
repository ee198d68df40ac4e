//! Pod garbage collection: pods of nodes that are gone, terminating pods that no kubelet will end, and the oldest of
//! too many ended ones.
//!
//! Must not know: owners.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use pintle_client::{Change, ObjectKey};
use serde_json::json;

use crate::context::Context;
use crate::work::Outcome;
use crate::{api, pods, taints};

/// A node must have been gone for this long before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods are counted this long after one more has ended.
const COUNT_AFTER: Duration = Duration::from_secs(20);

struct Controller {
    context: Context,
    client: Client,
}

/// Keys are pods; the empty one stands for all ended pods.
pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.nodes.synced(), caches.pods.synced());
    let queue = context.queue("pod_gc");
    let (nodes, delayed) = (caches.nodes.clone(), queue.clone());
    context.feed(&caches.pods, &queue, move |change| {
        let pod = change.object();
        if pods::is_terminal(pod) {
            delayed.add_after(ObjectKey::new("", ""), COUNT_AFTER);
        }
        let node = pods::node_name(pod);
        if !node.is_empty() && nodes.get("", node).is_none() {
            delayed.add_after(ObjectKey::of(pod.as_ref()), QUARANTINE);
        }
        let stuck = pods::is_terminating(pod) && !matches!(change, Change::Deleted(_));
        if stuck { vec![ObjectKey::of(pod.as_ref())] } else { Vec::new() }
    });
    let (all, delayed) = (caches.pods.clone(), queue.clone());
    context.feed(&caches.nodes, &queue, move |change| {
        let name = change.object().metadata.name.as_deref().unwrap_or_default();
        let (gone, out) = (matches!(change, Change::Deleted(_)), is_out_of_service(change.object()));
        let mut now = Vec::new();
        all.for_each(|pod| {
            if pods::node_name(pod) == name && gone {
                delayed.add_after(ObjectKey::of(pod.as_ref()), QUARANTINE);
            } else if pods::node_name(pod) == name && out {
                now.push(ObjectKey::of(pod.as_ref()));
            }
        });
        now
    });
    let client = context.client("pod-garbage-collector");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client });
    queue.run(2, cancel, |key| controller.clone().sync(key)).await;
}

fn is_out_of_service(node: &Node) -> bool {
    taints::taints(node).iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service")
}

impl Controller {
    async fn sync(self: Arc<Self>, key: ObjectKey) -> Outcome {
        if key.name.is_empty() {
            return self.delete_surplus().await.map(|()| None);
        }
        let caches = &self.context.caches;
        let Some(pod) = caches.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        let name = pods::node_name(&pod);
        let node = caches.nodes.get("", name);
        let unscheduled = name.is_empty() && pods::is_terminating(&pod);
        let abandoned = node.as_ref().is_some_and(|node| is_out_of_service(node)) && pods::is_terminating(&pod);
        let lost = !name.is_empty() && node.is_none();
        if unscheduled || abandoned {
            self.delete(&pod, None).await?;
        } else if lost && self.is_gone(name).await? {
            self.delete(&pod, Some("PodGC: node no longer exists")).await?;
        }
        Ok(None)
    }

    async fn is_gone(&self, node: &str) -> anyhow::Result<bool> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes.get_opt(node).await.context("looking whether a node is gone")?.is_none())
    }

    async fn delete_surplus(&self) -> anyhow::Result<()> {
        let threshold = self.context.config.terminated_pod_gc_threshold;
        if threshold == 0 {
            return Ok(());
        }
        let mut ended: Vec<Arc<Pod>> = Vec::new();
        self.context.caches.pods.for_each(|pod| {
            if pods::is_terminal(pod) && !pods::is_terminating(pod) {
                ended.push(pod.clone());
            }
        });
        ended.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()));
        let over = ended.len().saturating_sub(threshold);
        for pod in ended.into_iter().take(over) {
            self.delete(&pod, None).await?;
        }
        Ok(())
    }

    /// Deletes at once: nobody is there to end it. A pod that may not have ended is said to have failed.
    async fn delete(&self, pod: &Pod, disruption: Option<&str>) -> anyhow::Result<()> {
        let key = ObjectKey::of(pod);
        let pods = api::namespaced::<Pod>(&self.client, &key.namespace);
        if !pods::is_terminal(pod) {
            let condition = disruption.map(|message| {
                json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": message,
                    "lastTransitionTime": api::now().to_string()})
            });
            let conditions: Vec<_> = condition.into_iter().collect();
            let patch =
                json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed", "conditions": conditions}});
            let patched = pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            api::ignore_not_found(patched).context("noting that a pod has failed")?;
        }
        let params = DeleteParams { grace_period_seconds: Some(0), ..api::delete_uid(pod.metadata.uid.as_ref()) };
        api::ignore_not_found(pods.delete(&key.name, &params).await).context("deleting a pod")
    }
}
