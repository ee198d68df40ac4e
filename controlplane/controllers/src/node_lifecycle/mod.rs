//! Node lifecycle: notices nodes that have gone silent, and taints nodes by their conditions.
//!
//! Must not know: which pods that drives off (taint eviction does).

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use pintle_client::events::{Recorder, reference};
use pintle_client::{Change, ObjectKey};
use serde_json::json;

use crate::context::Context;
use crate::work::Outcome;
use crate::{api, pods};

/// A node that has just been registered gets at least this long for its first report.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

struct Controller {
    context: Context,
    client: Client,
    recorder: Recorder,
    /// When each node was last heard of, by its name, on our own clock: nodes' clocks are not trusted.
    heard: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Keys are the nodes' names.
pub async fn run(context: Context) {
    let caches = context.caches.clone();
    tokio::join!(caches.nodes.synced(), caches.leases.synced(), caches.pods.synced());
    let queue = context.queue("node_lifecycle_controller");
    let client = context.client("node-controller");
    let recorder = context.recorder(&client, "node-controller");
    let cancel = context.cancel.clone();
    let heard: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (on_node, on_lease, say) = (heard.clone(), heard.clone(), recorder.clone());
    context.feed(&caches.nodes, &queue, move |change| {
        note_node(&on_node, &say, change);
        vec![change.object().name_any()]
    });
    context.feed(&caches.leases, &queue, move |change| {
        if is_renewal(change) {
            on_lease.lock().insert(change.object().name_any(), Instant::now());
        }
        // a renewal needs no look unless the node was taken for lost; its next check is due anyway
        Vec::new()
    });
    let controller = Arc::new(Controller { context, client, recorder, heard });
    queue.run(4, cancel, |name| controller.clone().sync(name)).await;
}

fn note_node(heard: &Mutex<HashMap<String, Instant>>, recorder: &Recorder, change: &Change<Node>) {
    let name = change.object().name_any();
    let about = reference(change.object().as_ref());
    match change {
        Change::Added(_) => {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            recorder.normal(&about, "RegisteredNode", message);
            heard.lock().insert(name, Instant::now());
        }
        Change::Deleted(_) => {
            heard.lock().remove(&name);
            recorder.normal(&about, "RemovingNode", format!("Node {name} event: Removing Node {name} from Controller"));
        }
        Change::Modified { old, new } => {
            let beat = |node: &Node| plan::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
            if beat(old) != beat(new) {
                heard.lock().insert(name, Instant::now());
            }
        }
    }
}

fn is_renewal(change: &Change<Lease>) -> bool {
    let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    match change {
        Change::Added(_) => true,
        Change::Modified { old, new } => renewed(old) != renewed(new),
        Change::Deleted(_) => false,
    }
}

impl Controller {
    async fn sync(self: Arc<Self>, name: String) -> Outcome {
        let Some(node) = self.context.caches.nodes.get("", &name) else { return Ok(None) };
        let grace = self.grace(&node);
        let silence = self.heard.lock().get(&name).map_or(Duration::ZERO, Instant::elapsed);
        if silence >= grace
            && let Some(silent) = plan::silenced(&node, api::now())
        {
            self.silence(&node, &silent).await?;
            // the written node comes back through the watch, with its taints to set
            return Ok(None);
        }
        if plan::readiness(&node) != "True" {
            self.note_lost_pods(&name).await?;
        }
        if let Some(taints) = plan::taints(&node, self.some_node_is_ready(), api::now()) {
            let mut new = node.as_ref().clone();
            new.spec.get_or_insert_default().taints = Some(taints).filter(|taints| !taints.is_empty());
            let nodes: Api<Node> = Api::all(self.client.clone());
            let written = nodes.replace(&name, &PostParams::default(), &new).await;
            api::ignore_not_found(written).context("tainting a node")?;
        }
        Ok(Some(grace.saturating_sub(silence).max(Duration::from_secs(1))))
    }

    fn grace(&self, node: &Node) -> Duration {
        let grace = self.context.config.node_monitor_grace_period;
        if plan::readiness(node).is_empty() { grace.max(STARTUP_GRACE) } else { grace }
    }

    /// When no node at all seems ready, it is likelier that this side is cut off: nobody is driven off anything.
    fn some_node_is_ready(&self) -> bool {
        let mut ready = false;
        self.context.caches.nodes.for_each(|node| ready |= plan::readiness(node) == "True");
        ready
    }

    async fn silence(&self, node: &Node, silent: &Node) -> anyhow::Result<()> {
        let name = node.name_any();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let written = nodes.replace_status(&name, &PostParams::default(), silent).await;
        api::ignore_not_found(written).context("noting that a node is silent")?;
        if plan::readiness(node) == "True" {
            tracing::warn!(node = name, "node stopped reporting");
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder.normal(&reference(node), "NodeNotReady", message);
        }
        Ok(())
    }

    /// Pods on a node that is not ready serve nobody.
    async fn note_lost_pods(&self, node: &str) -> anyhow::Result<()> {
        let mut lost: Vec<Arc<Pod>> = Vec::new();
        self.context.caches.pods.for_each(|pod| {
            if pods::node_name(pod) == node && pods::is_ready(pod) && !pods::is_terminal(pod) {
                lost.push(pod.clone());
            }
        });
        for pod in lost {
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": api::now().to_string()});
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let key = ObjectKey::of(pod.as_ref());
            let pods = api::namespaced::<Pod>(&self.client, &key.namespace);
            let patched = pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            api::ignore_not_found(patched).context("noting that a pod is lost with its node")?;
            self.recorder.warning(&reference(pod.as_ref()), "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }
}
