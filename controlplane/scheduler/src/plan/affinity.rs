//! NodeAffinity, the node selector included.
//!
//! Must not know: pods on nodes.

use super::node::Node;
use super::pod::PodInfo;
use super::{Cycle, Rejection, normalized};

pub fn filter(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    match matches(cycle.pod, node) {
        true => Ok(()),
        false => Err(Rejection::unresolvable("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")),
    }
}

/// Whether the node is one that the pod asks for.
pub fn matches(pod: &PodInfo, node: &Node) -> bool {
    let selected = pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = pod.required_nodes.as_ref();
    selected && required.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
}

pub fn score(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let preferred = &cycle.pod.preferred_nodes;
    if preferred.is_empty() {
        return None;
    }
    let weight = |node: &&Node| {
        let met = preferred.iter().filter(|(_, term)| term.matches(&node.name, &node.labels));
        met.map(|(weight, _)| weight).sum()
    };
    Some(normalized(nodes.iter().map(weight).collect(), false))
}
