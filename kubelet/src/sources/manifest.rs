//! A file's text to a static pod: named after the node, identified by the hash of its content. Source: upstream's
//! config/common.go.
//!
//! Must not know: directories.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use sha2::{Digest as _, Sha256};

use crate::plan::pod::{CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE};

/// Reads one pod.
///
/// # Errors
/// Not YAML or JSON, not a v1 Pod, or without what a static pod needs.
pub fn parse(text: &str, node: &str, file: &str) -> anyhow::Result<Pod> {
    let head: serde_json::Value = serde_yaml_ng::from_str(text).context("this is neither YAML nor JSON")?;
    let field = |name: &str| head.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_string();
    let (version, kind) = (field("apiVersion"), field("kind"));
    anyhow::ensure!(version == "v1" && kind == "Pod", "a v1 Pod is needed, this is {version:?} {kind:?}");
    let mut pod: Pod = serde_json::from_value(head).context("this is not a valid Pod")?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).context("metadata.name is missing")?;
    let spec = pod.spec.as_mut().filter(|spec| !spec.containers.is_empty()).context("spec.containers is empty")?;
    default(spec, node);
    let hash = hash(&pod, node, file)?;
    let metadata = &mut pod.metadata;
    metadata.uid = Some(metadata.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or_else(|| hash.clone()));
    metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    metadata.namespace =
        Some(metadata.namespace.clone().filter(|one| !one.is_empty()).unwrap_or_else(|| "default".into()));
    metadata.deletion_timestamp = None;
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH.into(), hash);
    annotations.insert(CONFIG_SOURCE.into(), "file".into());
    annotations.insert(CONFIG_SEEN.into(), jiff::Timestamp::now().to_string());
    Ok(pod)
}

/// What the API server would have filled in and the kubelet reads.
fn default(spec: &mut PodSpec, node: &str) {
    spec.node_name = Some(node.into());
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network.unwrap_or(false);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
        container.termination_message_policy.get_or_insert_with(|| "File".into());
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".into());
            if host_network {
                port.host_port.get_or_insert(port.container_port);
            }
        }
        if let Some(resources) = &mut container.resources {
            let limits = resources.limits.clone().unwrap_or_default();
            let requests = resources.requests.get_or_insert_default();
            for (name, limit) in limits {
                requests.entry(name).or_insert(limit);
            }
        }
    }
    // static pods stay on a node that becomes not ready
    let everything =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&everything) {
        tolerations.push(everything);
    }
}

/// 32 hexadecimal digits over the node, the file and the pod.
fn hash(pod: &Pod, node: &str, file: &str) -> anyhow::Result<String> {
    let mut sha = Sha256::new();
    sha.update(format!("host:{node}\nfile:{file}\n"));
    sha.update(serde_json::to_vec(pod)?);
    Ok(sha.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: i}]}\n";

    #[test]
    fn a_static_pod_is_named_after_its_node_and_hashed() {
        let pod = parse(POD, "Node-1", "/m/web.yaml").unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
        assert_eq!(pod.metadata.uid, parse(POD, "Node-1", "/m/web.yaml").unwrap().metadata.uid);
        assert_ne!(
            pod.metadata.uid,
            parse(&POD.replace("image: i", "image: j"), "Node-1", "/m/web.yaml").unwrap().metadata.uid
        );
    }

    #[test]
    fn anything_else_is_refused_by_what_it_lacks() {
        let said = |text: &str| format!("{:#}", parse(text, "n", "f").unwrap_err());
        assert!(said("kind: Service\napiVersion: v1\n").contains("a v1 Pod is needed"));
        assert!(
            said("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: []}\n")
                .contains("metadata.name is missing")
        );
    }
}
