//! Taint eviction: deletes pods from nodes with NoExecute taints that they do not tolerate, or no longer.
//!
//! Must not know: why a node is tainted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Client, ResourceExt};
use pintle_client::ObjectKey;
use pintle_client::events::{Recorder, reference};
use serde_json::json;

use crate::context::Context;
use crate::work::Outcome;
use crate::{api, pods, taints};

struct Controller {
    context: Context,
    client: Client,
    recorder: Recorder,
}

/// Keys are the nodes' names.
pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.nodes.synced(), caches.pods.synced());
    let queue = context.queue("taint_eviction_controller");
    context.feed(&caches.nodes, &queue, |change| {
        let node = change.object();
        let tainted = taints::taints(node).iter().any(|taint| taint.effect == "NoExecute");
        if tainted { vec![node.name_any()] } else { Vec::new() }
    });
    let nodes = caches.nodes.clone();
    context.feed(&caches.pods, &queue, move |change| {
        let name = pods::node_name(change.object());
        let node = nodes.get("", name);
        let tainted = node.is_some_and(|node| taints::taints(&node).iter().any(|taint| taint.effect == "NoExecute"));
        if tainted { vec![name.to_owned()] } else { Vec::new() }
    });
    // as upstream, which gives it no role of its own
    let client = context.client("node-controller");
    let recorder = context.recorder(&client, "taint-eviction-controller");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client, recorder });
    queue.run(8, cancel, |name| controller.clone().sync(name)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, name: String) -> Outcome {
        let Some(node) = self.context.caches.nodes.get("", &name) else { return Ok(None) };
        let taints: Vec<&Taint> = taints::taints(&node).iter().filter(|taint| taint.effect == "NoExecute").collect();
        let mut here: Vec<Arc<Pod>> = Vec::new();
        self.context.caches.pods.for_each(|pod| {
            if pods::node_name(pod) == name && !pods::is_terminating(pod) {
                here.push(pod.clone());
            }
        });
        let (now, mut next) = (Timestamp::now(), None);
        for pod in here {
            match eviction(&pod, &taints, now) {
                Some(at) if at <= now => self.evict(&pod).await?,
                Some(at) => next = next.into_iter().chain([at.duration_since(now)]).min(),
                None => {}
            }
        }
        Ok(next.and_then(|next| Duration::try_from(next).ok()))
    }

    async fn evict(&self, pod: &Pod) -> anyhow::Result<()> {
        let key = ObjectKey::of(pod);
        self.recorder.normal(&reference(pod), "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
        let pods = api::namespaced::<Pod>(&self.client, &key.namespace);
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": api::now().to_string()});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let patched = pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        api::ignore_not_found(patched).context("noting why a pod is evicted")?;
        let deleted = pods.delete(&key.name, &api::delete_uid(pod.metadata.uid.as_ref())).await;
        api::ignore_not_found(deleted).context("evicting a pod")
    }
}

/// When the pod has to leave a node with these NoExecute taints; None: never.
fn eviction(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Option<Timestamp> {
    if taints.is_empty() {
        return None;
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if !taints.iter().all(|taint| taints::is_tolerated(tolerations, taint)) {
        return Some(now);
    }
    let used = |toleration: &&Toleration| taints.iter().any(|taint| taints::tolerates(toleration, taint));
    let seconds = tolerations.iter().filter(used).filter_map(|toleration| toleration.toleration_seconds).min()?;
    let tainted = taints.iter().filter_map(|taint| taint.time_added.as_ref()).map(|time| time.0);
    let created = pod.metadata.creation_timestamp.iter().map(|time| time.0);
    let since = tainted.chain(created).max().unwrap_or(now);
    Some(since + SignedDuration::from_secs(seconds.max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_leave_at_once_later_or_never() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let taint: Taint =
            serde_json::from_value(json!({"key": "k", "effect": "NoExecute", "timeAdded": at(1000).to_string()}))
                .unwrap();
        let evicted = |tolerations: serde_json::Value| {
            let pod = json!({"metadata": {"creationTimestamp": at(10).to_string()}, "spec": {"containers": [], "tolerations": tolerations}});
            eviction(&serde_json::from_value(pod).unwrap(), &[&taint], at(1100))
        };
        assert_eq!(evicted(json!([])), Some(at(1100)));
        assert_eq!(
            evicted(json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}])),
            Some(at(1300))
        );
        assert_eq!(evicted(json!([{"operator": "Exists"}])), None);
    }
}
