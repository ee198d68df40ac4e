//! Registering the node: created, or found again and its own labels brought up to date.
//!
//! Must not know: how its status is made.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::config::Config;

/// The node as the API has it afterwards.
pub async fn register(api: &Api<Node>, config: &Config, status: NodeStatus) -> anyhow::Result<Node> {
    let labels = labels(config);
    if let Some(node) = api.get_opt(&config.node_name).await.context("looking for the node")? {
        return refresh(api, config, node, labels).await;
    }
    anyhow::ensure!(config.register_node, "the node does not exist, and registerNode is off");
    let metadata = ObjectMeta {
        name: Some(config.node_name.clone()),
        labels: Some(labels),
        annotations: Some(BTreeMap::from([(
            "volumes.kubernetes.io/controller-managed-attach-detach".into(),
            "true".into(),
        )])),
        ..ObjectMeta::default()
    };
    let spec = NodeSpec { taints: taints(config), provider_id: config.provider_id.clone(), ..NodeSpec::default() };
    let node = Node { metadata, spec: Some(spec), status: Some(status) };
    match api.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(error)) if error.code == 409 => {
            api.get(&config.node_name).await.context("reading the node")
        }
        other => other.context("creating the node"),
    }
}

fn taints(config: &Config) -> Option<Vec<Taint>> {
    (!config.register_with_taints.is_empty()).then(|| config.register_with_taints.clone())
}

async fn refresh(
    api: &Api<Node>,
    config: &Config,
    node: Node,
    labels: BTreeMap<String, String>,
) -> anyhow::Result<Node> {
    let has = node.metadata.labels.clone().unwrap_or_default();
    if labels.iter().all(|(key, value)| has.get(key) == Some(value)) {
        return Ok(node);
    }
    let patch = json!({"metadata": {"labels": labels}});
    api.patch(&config.node_name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .context("bringing the node's labels up to date")
}

fn labels(config: &Config) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_string(), config.node_name.clone()),
        ("kubernetes.io/os".into(), "linux".into()),
        ("kubernetes.io/arch".into(), arch.into()),
        ("beta.kubernetes.io/os".into(), "linux".into()),
        ("beta.kubernetes.io/arch".into(), arch.into()),
    ]);
    labels.extend(config.node_labels.clone());
    labels
}
