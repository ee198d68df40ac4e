//! NodeUnschedulable, NodeName, TaintToleration, NodePorts: what a node is by itself.
//!
//! Must not know: other nodes.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::node::Node;
use super::{Cycle, Rejection, normalized};

pub fn unschedulable(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    match node.unschedulable && !tolerated(&cycle.pod.tolerations, &taint) {
        true => Err(Rejection::unresolvable("NodeUnschedulable", "node(s) were unschedulable")),
        false => Ok(()),
    }
}

/// A pod with a node name is not scheduled; the plugin is upstream's all the same.
pub fn name(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    match cycle.pod.node.as_ref().is_none_or(|name| *name == node.name) {
        true => Ok(()),
        false => Err(Rejection::unresolvable("NodeName", "node(s) didn't match the requested node name")),
    }
}

pub fn taints(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    match repels(&cycle.pod.tolerations, node) {
        true => Err(Rejection::unresolvable("TaintToleration", "node(s) had untolerated taint(s)")),
        false => Ok(()),
    }
}

/// Whether the node has a taint that keeps such a pod away.
pub fn repels(tolerations: &[Toleration], node: &Node) -> bool {
    let hard = node.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    hard.into_iter().any(|taint| !tolerated(tolerations, taint))
}

fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// Source: `Toleration.ToleratesTaint`, the comparison operators of 1.35 included.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key, value) = (given(&toleration.effect), given(&toleration.key), given(&toleration.value));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let there = taint.value.clone().unwrap_or_default();
    let numbers = || Some((there.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "" | "Equal" => value == there,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(there, bound)| there < bound),
        "Gt" => numbers().is_some_and(|(there, bound)| there > bound),
        _ => false,
    }
}

/// Fewer taints that would rather not have it is better.
pub fn prefer_taints(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let counting =
        |toleration: &&Toleration| matches!(toleration.effect.as_deref(), None | Some("" | "PreferNoSchedule"));
    let tolerations: Vec<Toleration> = cycle.pod.tolerations.iter().filter(counting).cloned().collect();
    let unwelcome = |node: &&Node| {
        let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !tolerated(&tolerations, taint)).count() as i64
    };
    Some(normalized(nodes.iter().map(unwelcome).collect(), true))
}

pub fn ports(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    if cycle.pod.ports.is_empty() {
        return Ok(());
    }
    let mut taken = node.pods.values().flat_map(|pod| &pod.ports);
    match taken.any(|taken| cycle.pod.ports.iter().any(|wanted| wanted.conflicts(taken))) {
        true => Err(Rejection::resolvable("NodePorts", "node(s) didn't have free ports for the requested pod ports")),
        false => Ok(()),
    }
}
