//! PodTopologySpread: pods of one kind evenly over zones, hosts or any other topology.
//!
//! Without constraints of its own, a pod is spread by upstream's system defaults (hosts with skew 3, zones with
//! skew 5), over the pods of its controller. Must not know: other plugins, but for the node affinity and taints that
//! decide which nodes count.

use std::collections::BTreeMap;

use super::node::{Node, Table};
use super::pod::{PodInfo, Spread};
use super::{Cycle, MAX_SCORE, Rejection, affinity, node_checks};

const NAME: &str = "PodTopologySpread";
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Whether the node counts for the constraint.
fn counts(pod: &PodInfo, constraint: &Spread, node: &Node) -> bool {
    (!constraint.honor_affinity || affinity::matches(pod, node))
        && (!constraint.honor_taints || !node_checks::repels(&pod.tolerations, node))
}

/// How many pods on the node the constraint means.
fn alike(pod: &PodInfo, constraint: &Spread, node: &Node) -> i64 {
    let there = node.pods.values().filter(|other| other.namespace == pod.namespace && !other.terminating);
    there.filter(|other| constraint.selector.matches(&other.labels)).count() as i64
}

fn has_keys(constraints: &[&Spread], node: &Node) -> bool {
    constraints.iter().all(|constraint| node.labels.contains_key(&constraint.topology_key))
}

/// The constraints that must hold, with the count of each domain.
pub struct Hard<'a> {
    pod: &'a PodInfo,
    constraints: Vec<(&'a Spread, BTreeMap<&'a str, i64>)>,
}

impl<'a> Hard<'a> {
    pub fn new(pod: &'a PodInfo, table: &'a Table) -> Self {
        let hard: Vec<&Spread> = pod.spread.iter().filter(|constraint| constraint.hard).collect();
        let mut constraints: Vec<(&Spread, BTreeMap<&str, i64>)> =
            hard.iter().map(|constraint| (*constraint, BTreeMap::new())).collect();
        if constraints.is_empty() {
            return Self { pod, constraints };
        }
        for node in table.nodes().iter().filter(|node| has_keys(&hard, node)) {
            for (constraint, domains) in &mut constraints {
                if let Some(domain) = node.labels.get(&constraint.topology_key)
                    && counts(pod, constraint, node)
                {
                    *domains.entry(domain).or_default() += alike(pod, constraint, node);
                }
            }
        }
        Self { pod, constraints }
    }

    pub fn filter(&self, node: &Node) -> Result<(), Rejection> {
        const REASON: &str = "node(s) didn't match pod topology spread constraints";
        for (constraint, domains) in &self.constraints {
            let Some(domain) = node.labels.get(&constraint.topology_key) else {
                return Err(Rejection::unresolvable(NAME, &format!("{REASON} (missing required label)")));
            };
            let few = (domains.len() as i64) < constraint.min_domains;
            let least = if few { 0 } else { domains.values().min().copied().unwrap_or(i64::from(i32::MAX)) };
            let itself = i64::from(constraint.selector.matches(&self.pod.labels));
            let there = domains.get(domain.as_str()).copied().unwrap_or_default();
            if there + itself - least > constraint.max_skew {
                return Err(Rejection::resolvable(NAME, REASON));
            }
        }
        Ok(())
    }
}

/// A preference: its topology, its skew, and how many pods a node has that it means.
struct Soft<'a> {
    key: &'a str,
    max_skew: i64,
    alike: Box<dyn Fn(&Node) -> i64 + 'a>,
    counts: Box<dyn Fn(&Node) -> bool + 'a>,
}

fn preferences(pod: &PodInfo) -> Vec<Soft<'_>> {
    let own = pod.spread.iter().filter(|constraint| !constraint.hard).map(|constraint| Soft {
        key: &constraint.topology_key,
        max_skew: constraint.max_skew,
        alike: Box::new(move |node| alike(pod, constraint, node)),
        counts: Box::new(move |node| counts(pod, constraint, node)),
    });
    let Some(owner) = pod.owner.as_ref().filter(|_| pod.spread.is_empty()) else {
        return own.collect();
    };
    let siblings = move |node: &Node| {
        let there = node.pods.values().filter(|other| other.owner.as_ref() == Some(owner) && !other.terminating);
        there.count() as i64
    };
    let default = |(key, max_skew)| Soft {
        key,
        max_skew,
        alike: Box::new(siblings),
        counts: Box::new(move |node| affinity::matches(pod, node)),
    };
    [(HOSTNAME, 3), (ZONE, 5)].map(default).into_iter().collect()
}

pub fn score(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let preferences = preferences(cycle.pod);
    if preferences.is_empty() {
        return None;
    }
    // the system's defaults take nodes that lack a zone; a pod's own constraints do not
    let all_keys = !cycle.pod.spread.is_empty();
    let eligible = |node: &Node| !all_keys || preferences.iter().all(|one| node.labels.contains_key(one.key));
    let mut raw: Vec<Option<f64>> = nodes.iter().map(|node| eligible(node).then_some(0.0)).collect();
    for one in &preferences {
        let domains = domains(one, cycle.table, nodes, eligible);
        let size = match one.key {
            HOSTNAME => raw.iter().flatten().count(),
            _ => domains.len(),
        };
        let weight = ((size + 2) as f64).ln();
        for (node, raw) in nodes.iter().zip(&mut raw) {
            let (Some(raw), Some(domain)) = (raw, node.labels.get(one.key)) else { continue };
            let count = match one.key {
                HOSTNAME => (one.alike)(node),
                _ => domains.get(domain.as_str()).copied().unwrap_or_default(),
            };
            *raw += count as f64 * weight + (one.max_skew - 1) as f64;
        }
    }
    Some(fewest_best(&raw))
}

/// The pods of each domain that a candidate is in; hosts are counted one by one instead.
fn domains<'a>(
    one: &Soft<'_>,
    table: &'a Table,
    nodes: &[&'a Node],
    eligible: impl Fn(&Node) -> bool,
) -> BTreeMap<&'a str, i64> {
    if one.key == HOSTNAME {
        return BTreeMap::new();
    }
    let candidates = nodes.iter().filter(|node| eligible(node)).filter_map(|node| node.labels.get(one.key));
    let mut domains: BTreeMap<&str, i64> = candidates.map(|domain| (domain.as_str(), 0)).collect();
    for node in table.nodes().iter().filter(|node| eligible(node) && (one.counts)(node)) {
        if let Some(count) = node.labels.get(one.key).and_then(|domain| domains.get_mut(domain.as_str())) {
            *count += (one.alike)(node);
        }
    }
    domains
}

fn fewest_best(raw: &[Option<f64>]) -> Vec<i64> {
    let rounded = || raw.iter().flatten().map(|score| score.round() as i64);
    let (least, most) = (rounded().min().unwrap_or_default(), rounded().max().unwrap_or_default());
    let scaled = |score: &Option<f64>| match score {
        None => 0,
        Some(_) if most == 0 => MAX_SCORE,
        Some(score) => MAX_SCORE * (most + least - score.round() as i64) / most,
    };
    raw.iter().map(scaled).collect()
}
