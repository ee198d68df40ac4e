//! Node IPAM: cuts a pod CIDR for every node out of the cluster CIDR.
//!
//! Must not know: who routes these addresses.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use pintle_client::events::{Recorder, reference};
use pintle_client::{Change, ObjectKey};
use serde_json::json;

use crate::context::Context;
use crate::work::Outcome;

struct Controller {
    context: Context,
    client: Client,
    recorder: Recorder,
    /// Handed out by this process, by node UID: the cache may not show them yet.
    given: Mutex<Vec<(String, u32)>>,
}

/// Keys are the nodes' names. One worker: allocations must see each other.
pub async fn run(context: Context) {
    let caches = context.caches.clone();
    caches.nodes.synced().await;
    let queue = context.queue("node_ipam");
    context.feed(&caches.nodes, &queue, |change| match change {
        Change::Deleted(_) => Vec::new(),
        other => vec![ObjectKey::of(other.object().as_ref()).name],
    });
    let client = context.client("node-controller");
    let recorder = context.recorder(&client, "cidrAllocator");
    let cancel = context.cancel.clone();
    let controller = Arc::new(Controller { context, client, recorder, given: Mutex::default() });
    queue.run(1, cancel, |name| controller.clone().sync(name)).await;
}

impl Controller {
    async fn sync(self: Arc<Self>, name: String) -> Outcome {
        let Some((network, length)) = self.context.config.cluster_cidr else { return Ok(None) };
        let nodes = &self.context.caches.nodes;
        let Some(node) = nodes.get("", &name).filter(|node| pod_cidr(node).is_none()) else { return Ok(None) };
        let mask = self.context.config.node_cidr_mask_size;
        let Some(block) = free_block(network, length, mask, &self.used(mask)) else {
            self.recorder.normal(
                &reference(node.as_ref()),
                "CIDRNotAvailable",
                format!("Node {name} status is now: CIDRNotAvailable"),
            );
            anyhow::bail!("no pod CIDR is left for node {name} in {network}/{length}");
        };
        let uid = node.metadata.uid.clone().unwrap_or_default();
        self.given.lock().push((uid.clone(), block));
        let cidr = format!("{}/{mask}", Ipv4Addr::from_bits(block));
        let patch = json!({"metadata": {"uid": uid}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patched = nodes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        if patched.is_err() {
            self.given.lock().retain(|(other, _)| other != &uid);
        }
        crate::api::ignore_not_found(patched).context("giving a node its pod CIDR")?;
        Ok(None)
    }

    /// First addresses of the blocks in use.
    fn used(&self, mask: u8) -> HashSet<u32> {
        let mut used = HashSet::new();
        let mut waiting: HashSet<String> = HashSet::new();
        self.context.caches.nodes.for_each(|node| match pod_cidr(node) {
            Some(cidr) => used.extend(blocks(cidr, mask)),
            None => drop(waiting.insert(node.uid().unwrap_or_default())),
        });
        let mut given = self.given.lock();
        given.retain(|(uid, _)| waiting.contains(uid));
        used.extend(given.iter().map(|(_, block)| *block));
        used
    }
}

fn pod_cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty())
}

fn size(mask: u8) -> u64 {
    1 << (32 - mask.min(32))
}

/// The blocks of `mask` that a CIDR touches.
fn blocks(cidr: &str, mask: u8) -> Vec<u32> {
    let parsed =
        cidr.split_once('/').and_then(|(ip, length)| Some((ip.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?)));
    let Some((ip, length)) = parsed.filter(|(_, length)| *length <= 32) else { return Vec::new() };
    let first = u64::from(ip.to_bits()) / size(mask) * size(mask);
    let end = u64::from(ip.to_bits()) + size(length);
    let step = usize::try_from(size(mask)).unwrap_or(usize::MAX);
    (first..end).step_by(step).filter_map(|block| u32::try_from(block).ok()).collect()
}

/// The lowest free block of `mask` in the network.
fn free_block(network: Ipv4Addr, length: u8, mask: u8, used: &HashSet<u32>) -> Option<u32> {
    if mask < length || mask > 32 {
        return None;
    }
    let first = u64::from(network.to_bits()) / size(length) * size(length);
    let step = usize::try_from(size(mask)).ok()?;
    let all = (first..first + size(length)).step_by(step).filter_map(|block| u32::try_from(block).ok());
    all.into_iter().find(|block| !used.contains(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(used: &[&str]) -> Option<String> {
        let used: HashSet<u32> = used.iter().flat_map(|cidr| blocks(cidr, 22)).collect();
        free_block(Ipv4Addr::new(10, 244, 0, 0), 16, 22, &used).map(|block| Ipv4Addr::from_bits(block).to_string())
    }

    #[test]
    fn nodes_get_the_lowest_free_block() {
        assert_eq!(free(&[]).as_deref(), Some("10.244.0.0"));
        assert_eq!(free(&["10.244.0.0/22"]).as_deref(), Some("10.244.4.0"));
        assert_eq!(free(&["10.244.0.0/24", "10.244.8.0/22"]).as_deref(), Some("10.244.4.0"));
        assert_eq!(free(&["10.244.0.0/17"]).as_deref(), Some("10.244.128.0"));
        assert_eq!(free(&["10.244.0.0/16"]), None);
        assert_eq!(free(&["nonsense"]).as_deref(), Some("10.244.0.0"));
    }
}
