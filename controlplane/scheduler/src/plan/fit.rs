//! NodeResourcesFit (its LeastAllocated strategy) and NodeResourcesBalancedAllocation.
//!
//! Must not know: other nodes.

use super::node::Node;
use super::pod::Resources;
use super::{Cycle, MAX_SCORE, Rejection};

const NAME: &str = "NodeResourcesFit";

fn amount(of: &Resources, name: &str) -> i64 {
    of.get(name).copied().unwrap_or_default()
}

pub fn filter(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    let mut rejection = Rejection { plugin: NAME, reasons: Vec::new(), resolvable: true };
    if node.pods.len() as i64 + 1 > amount(&node.allocatable, "pods") {
        rejection.reasons.push("Too many pods".to_owned());
    }
    for (name, wanted) in cycle.pod.requests.iter().filter(|(_, wanted)| **wanted > 0) {
        let offered = amount(&node.allocatable, name);
        if *wanted > offered - amount(&node.requested, name) {
            rejection.reasons.push(format!("Insufficient {name}"));
            // not even an empty node would do
            rejection.resolvable &= *wanted <= offered;
        }
    }
    if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
}

/// The emptier after this pod, the better: the mean over cpu and memory.
pub fn least_allocated(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let (cpu, memory) = cycle.pod.counted;
    let score = |node: &&Node| {
        let taken = [("cpu", node.counted.0 + cpu), ("memory", node.counted.1 + memory)];
        let offered = taken.map(|(name, taken)| (taken, amount(&node.allocatable, name)));
        let scores = offered.into_iter().filter(|(_, offered)| *offered > 0).map(|(taken, offered)| {
            // in 128 bits: memory times a hundred may not fit into 64
            (i128::from((offered - taken).max(0)) * i128::from(MAX_SCORE) / i128::from(offered)) as i64
        });
        let scores: Vec<i64> = scores.collect();
        scores.iter().sum::<i64>() / scores.len().max(1) as i64
    };
    Some(nodes.iter().map(score).collect())
}

/// The more evenly cpu and memory are used with this pod than without, the better.
pub fn balanced_allocation(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let requests = &cycle.pod.requests;
    if amount(requests, "cpu") == 0 && amount(requests, "memory") == 0 {
        return None;
    }
    let score = |node: &&Node| {
        let (with, without) = (balance(node, requests), balance(node, &Resources::new()));
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    };
    Some(nodes.iter().map(score).collect())
}

fn balance(node: &Node, more: &Resources) -> i64 {
    let fractions: Vec<f64> = ["cpu", "memory"]
        .into_iter()
        .filter(|name| amount(&node.allocatable, name) > 0)
        .map(|name| {
            let taken = amount(&node.requested, name) + amount(more, name);
            (taken as f64 / amount(&node.allocatable, name) as f64).min(1.0)
        })
        .collect();
    let deviation = match fractions.as_slice() {
        [cpu, memory] => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
