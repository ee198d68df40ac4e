//! The Node object: registered, its status kept true, its lease renewed.
//!
//! Must not know: pods, except how many images and containers there are.

mod facts;
mod lease;
mod register;
mod status;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeStatus, ObjectReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use pintle_client::error::chain;
use pintle_client::events::Recorder;
use pintle_cri::Runtime;
use pintle_daemon::backoff::Backoff;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::abilities::Abilities;
use crate::config::Config;
use crate::references::Facts;

pub use facts::{Machine, host_ips};
pub use status::{allocatable, room};

/// How soon a node that is not ready looks again: at first, and at last.
const UNREADY_LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// What an event about the node refers to; upstream gives the name as its UID too.
pub fn reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        name: Some(name.into()),
        uid: Some(name.into()),
        ..ObjectReference::default()
    }
}

/// What keeps the node's object up.
pub struct NodeKeeper {
    pub client: Client,
    pub runtime: Runtime,
    pub abilities: Abilities,
    pub recorder: Recorder,
    pub config: Arc<Config>,
    pub machine: Machine,
    pub facts: watch::Receiver<Facts>,
}

impl NodeKeeper {
    /// Registers the node, then renews its lease and keeps its status until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let lease = lease::run(self.client.clone(), self.config.clone());
        let keep = async { tokio::join!(lease, self.keep()) };
        cancel.run_until_cancelled(keep).await;
    }

    async fn keep(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
        let api: Api<Node> = Api::all(self.client.clone());
        let mut node = loop {
            match register::register(&api, &self.config, self.status(None).await).await {
                Ok(node) => break node,
                Err(error) => {
                    tracing::warn!("registering the node {}: {}", self.config.node_name, chain(error.as_ref()))
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        };
        self.recorder.normal(&reference(&self.config.node_name), "Starting", "Starting kubelet.");
        // upstream reports a change at the next look, and at the latest after the report frequency
        let mut reported = None::<tokio::time::Instant>;
        let mut until_ready = Backoff::new(UNREADY_LOOKS.0, UNREADY_LOOKS.1);
        loop {
            let status = self.status(node.status.as_ref()).await;
            let due = reported.is_none_or(|at| at.elapsed() >= self.config.node_status_report_frequency);
            if due || status::differs(node.status.as_ref(), &status) {
                match self.write(&api, &node, &status).await {
                    Ok(written) => {
                        self.say_readiness(node.status.as_ref(), &status);
                        node = written;
                        reported = Some(tokio::time::Instant::now());
                    }
                    Err(error) => {
                        tracing::warn!("writing the node's status: {}", chain(&error));
                        if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                            node = register::register(&api, &self.config, status).await.unwrap_or(node);
                        }
                    }
                }
            }
            tokio::time::sleep(self.pause(&node, &mut until_ready)).await;
        }
    }

    /// A node that is not ready yet looks more often, for ready is to be said at once and CRI has no event for it.
    fn pause(&self, node: &Node, until_ready: &mut Backoff) -> Duration {
        if !node.status.as_ref().is_some_and(status::is_ready) {
            return until_ready.next_delay();
        }
        until_ready.reset();
        self.config.node_status_update_frequency
    }

    async fn status(&self, old: Option<&NodeStatus>) -> NodeStatus {
        let host_ips = self.facts.borrow().host_ips.clone();
        status::status(&self.config, &self.machine, (&self.runtime, &self.abilities), &host_ips, old).await
    }

    async fn write(&self, api: &Api<Node>, node: &Node, status: &NodeStatus) -> kube::Result<Node> {
        let patch = status::patch(node.status.as_ref(), status);
        api.patch_status(&self.config.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await
    }

    fn say_readiness(&self, old: Option<&NodeStatus>, new: &NodeStatus) {
        let (was, is) = (old.is_some_and(status::is_ready), status::is_ready(new));
        if was != is {
            let reason = if is { "NodeReady" } else { "NodeNotReady" };
            let message = format!("Node {} status is now: {reason}", self.config.node_name);
            self.recorder.normal(&reference(&self.config.node_name), reason, message);
        }
    }
}
