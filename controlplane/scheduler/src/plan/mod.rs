//! Deciding where a pod goes: filters, then scores, over a table of nodes. Plugins carry upstream's names, weights
//! and words (`pkg/scheduler/framework/plugins`).
//!
//! Must not know: clients, clocks, queues, or that anything happens because of what is decided here.

pub mod affinity;
pub mod fit;
pub mod image;
pub mod inter_pod;
pub mod node;
pub mod node_checks;
pub mod pod;
pub mod preempt;
pub mod selector;
pub mod spread;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use node::{Node, Table};
use pod::PodInfo;

/// The best score a plugin can give a node.
pub const MAX_SCORE: i64 = 100;

/// Why a plugin turned a node down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    pub reasons: Vec<String>,
    /// Removing pods from the node could help.
    pub resolvable: bool,
}

impl Rejection {
    fn resolvable(plugin: &'static str, reason: &str) -> Self {
        Self { plugin, reasons: vec![reason.to_owned()], resolvable: true }
    }

    fn unresolvable(plugin: &'static str, reason: &str) -> Self {
        Self { resolvable: false, ..Self::resolvable(plugin, reason) }
    }
}

/// One pod's scheduling: what the plugins compute once, before they look at single nodes.
pub struct Cycle<'a> {
    pub pod: &'a PodInfo,
    pub table: &'a Table,
    spread: spread::Hard<'a>,
    inter_pod: inter_pod::Required<'a>,
}

impl<'a> Cycle<'a> {
    pub fn new(pod: &'a PodInfo, table: &'a Table) -> Self {
        let (spread, inter_pod) = (spread::Hard::new(pod, table), inter_pod::Required::new(pod, table));
        Self { pod, table, spread, inter_pod }
    }
}

type Filter = fn(&Cycle<'_>, &Node) -> Result<(), Rejection>;

/// In upstream's order: the first to turn a node down is the one that is reported.
const FILTERS: [Filter; 8] = [
    node_checks::unschedulable,
    node_checks::name,
    node_checks::taints,
    affinity::filter,
    node_checks::ports,
    fit::filter,
    |cycle, node| cycle.spread.filter(node),
    |cycle, node| cycle.inter_pod.filter(node),
];

/// Scores for each node given, from 0 to [`MAX_SCORE`]; `None` where the plugin has nothing to say about the pod.
type Score = fn(&Cycle<'_>, &[&Node]) -> Option<Vec<i64>>;

/// With upstream's default weights.
const SCORES: [(i64, Score); 7] = [
    (3, node_checks::prefer_taints),
    (2, affinity::score),
    (1, fit::least_allocated),
    (2, spread::score),
    (2, inter_pod::score),
    (1, fit::balanced_allocation),
    (1, image::score),
];

/// What was decided for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Node(String),
    Unschedulable(Unschedulable),
}

/// Why no node would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// By node: the first plugin's word against it.
    pub rejections: Vec<(String, Rejection)>,
}

impl Unschedulable {
    /// The plugins that turned nodes down: what they look at has to change before another try makes sense.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        self.rejections.iter().map(|(_, rejection)| rejection.plugin).collect()
    }

    /// Upstream's: `0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods. preemption: …`; `preemption` says why
    /// nobody was preempted, and is empty where somebody was.
    pub fn message(&self, preemption: &str) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let reasons = self.rejections.iter().flat_map(|(_, rejection)| &rejection.reasons);
        reasons.for_each(|reason| *counts.entry(reason.clone()).or_default() += 1);
        let message = format!("0/{} nodes are available: {}.", self.nodes, histogram(&counts));
        if preemption.is_empty() { message } else { format!("{message} preemption: {preemption}") }
    }
}

/// Decides for one pod. `turn` varies from one pod to the next: it says where to begin to look in a large cluster,
/// and which of equally good nodes to take.
pub fn schedule(pod: &PodInfo, table: &Table, turn: usize) -> Decision {
    if table.nodes().is_empty() {
        return Decision::Unschedulable(Unschedulable { nodes: 0, rejections: Vec::new() });
    }
    let cycle = Cycle::new(pod, table);
    if let Some(node) = pod.nominated.as_deref().and_then(|name| table.node(name))
        && filter(&cycle, node).is_ok()
    {
        return Decision::Node(node.name.clone());
    }
    let (feasible, rejections) = feasible(&cycle, turn);
    match feasible.as_slice() {
        [] => Decision::Unschedulable(Unschedulable { nodes: table.nodes().len(), rejections }),
        [only] => Decision::Node(only.name.clone()),
        several => Decision::Node(best(&cycle, several, turn).name.clone()),
    }
}

/// The first plugin's word against the node, if any.
pub fn filter(cycle: &Cycle<'_>, node: &Node) -> Result<(), Rejection> {
    FILTERS.iter().try_for_each(|filter| filter(cycle, node))
}

fn feasible<'a>(cycle: &Cycle<'a>, turn: usize) -> (Vec<&'a Node>, Vec<(String, Rejection)>) {
    let nodes = cycle.table.nodes();
    let enough = enough(nodes.len());
    let (mut found, mut rejections) = (Vec::new(), Vec::new());
    for node in nodes.iter().cycle().skip(turn % nodes.len().max(1)).take(nodes.len()) {
        match filter(cycle, node) {
            Ok(()) => found.push(node),
            Err(rejection) => rejections.push((node.name.clone(), rejection)),
        }
        if found.len() >= enough {
            break;
        }
    }
    (found, rejections)
}

/// How many feasible nodes are enough to score, of `all`: upstream's `numFeasibleNodesToFind`.
fn enough(all: usize) -> usize {
    const LEAST: usize = 100;
    let percent = 50_usize.saturating_sub(all / 125).max(5);
    if all < LEAST { all.max(1) } else { (all * percent / 100).max(LEAST) }
}

/// Every plugin's weighted scores of the nodes, added up.
pub fn scores(cycle: &Cycle<'_>, nodes: &[&Node]) -> Vec<i64> {
    let mut total = vec![0; nodes.len()];
    for (weight, score) in SCORES {
        let given = score(cycle, nodes).unwrap_or_default();
        total.iter_mut().zip(given).for_each(|(total, given)| *total += weight * given);
    }
    total
}

fn best<'a>(cycle: &Cycle<'_>, nodes: &[&'a Node], turn: usize) -> &'a Node {
    let scores = scores(cycle, nodes);
    let highest = scores.iter().max().copied().unwrap_or_default();
    let best: Vec<&Node> =
        nodes.iter().zip(&scores).filter(|(_, score)| **score == highest).map(|(node, _)| *node).collect();
    best[turn % best.len()]
}

/// `2 Insufficient cpu, 1 Too many pods`, sorted as upstream sorts it: as text.
fn histogram(counts: &BTreeMap<String, usize>) -> String {
    let mut lines: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort();
    lines.join(", ")
}

/// Scales so that the largest becomes [`MAX_SCORE`]; `reverse` makes the smallest the best.
fn normalized(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let largest = scores.iter().max().copied().unwrap_or_default();
    for score in &mut scores {
        let scaled = if largest == 0 { 0 } else { MAX_SCORE * *score / largest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
    scores
}
