//! InterPodAffinity: pods that want to be near others, or apart from them, in some topology.
//!
//! Must not know: other plugins.

use std::collections::HashMap;

use super::node::{Node, Table};
use super::pod::PodInfo;
use super::{Cycle, MAX_SCORE, Rejection};

const NAME: &str = "InterPodAffinity";
/// Upstream's hardPodAffinityWeight.
const HARD_WEIGHT: i64 = 1;

/// A topology: key and value.
type Pair<'a> = (&'a str, &'a str);

/// What must hold, counted once for a pod over all nodes.
pub struct Required<'a> {
    pod: &'a PodInfo,
    /// Topologies with pods that match all of the pod's affinity terms.
    near: HashMap<Pair<'a>, i64>,
    /// Topologies with pods that match one of its anti-affinity terms.
    apart: HashMap<Pair<'a>, i64>,
    /// Topologies with pods whose anti-affinity terms match it.
    unwelcome: HashMap<Pair<'a>, i64>,
    matches_itself: bool,
}

impl<'a> Required<'a> {
    pub fn new(pod: &'a PodInfo, table: &'a Table) -> Self {
        let means_itself = |term: &super::pod::PodTerm| term.matches(pod, &table.namespaces);
        let mut required = Self {
            pod,
            near: HashMap::new(),
            apart: HashMap::new(),
            unwelcome: HashMap::new(),
            matches_itself: pod.affinity.iter().all(means_itself),
        };
        if pod.affinity.is_empty() && pod.anti_affinity.is_empty() && table.with_terms == 0 {
            return required;
        }
        for node in table.nodes() {
            for other in node.pods.values() {
                required.count(table, node, other);
            }
        }
        required
    }

    fn count(&mut self, table: &'a Table, node: &'a Node, other: &'a PodInfo) {
        let namespaces = &table.namespaces;
        let pair = |key: &'a str| node.labels.get(key).map(|value| (key, value.as_str()));
        let (near, apart) = (&self.pod.affinity, &self.pod.anti_affinity);
        if !near.is_empty() && near.iter().all(|term| term.matches(other, namespaces)) {
            for pair in near.iter().filter_map(|term| pair(&term.topology_key)) {
                *self.near.entry(pair).or_default() += 1;
            }
        }
        for term in apart.iter().filter(|term| term.matches(other, namespaces)) {
            pair(&term.topology_key).into_iter().for_each(|pair| *self.apart.entry(pair).or_default() += 1);
        }
        for term in other.anti_affinity.iter().filter(|term| term.matches(self.pod, namespaces)) {
            pair(&term.topology_key).into_iter().for_each(|pair| *self.unwelcome.entry(pair).or_default() += 1);
        }
    }

    pub fn filter(&self, node: &Node) -> Result<(), Rejection> {
        if !self.is_near(node) {
            return Err(Rejection::unresolvable(NAME, "node(s) didn't match pod affinity rules"));
        }
        let in_apart = |key: &str| node.labels.get(key).is_some_and(|value| self.apart.contains_key(&(key, value)));
        if self.pod.anti_affinity.iter().any(|term| in_apart(&term.topology_key)) {
            return Err(Rejection::resolvable(NAME, "node(s) didn't match pod anti-affinity rules"));
        }
        let unwelcome = |(key, value): (&String, &String)| self.unwelcome.contains_key(&(key.as_str(), value.as_str()));
        if !self.unwelcome.is_empty() && node.labels.iter().any(unwelcome) {
            return Err(Rejection::resolvable(NAME, "node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    /// The first of a group that wants to be near itself may go anywhere.
    fn is_near(&self, node: &Node) -> bool {
        let mut pairs = self.pod.affinity.iter().map(|term| {
            let value = node.labels.get(&term.topology_key)?;
            Some((term.topology_key.as_str(), value.as_str()))
        });
        let Some(pairs) = pairs.try_fold(Vec::new(), |mut all, pair| {
            all.push(pair?);
            Some(all)
        }) else {
            return false;
        };
        pairs.iter().all(|pair| self.near.contains_key(pair)) || (self.near.is_empty() && self.matches_itself)
    }
}

pub fn score(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let (pod, table) = (cycle.pod, cycle.table);
    if pod.preferred_pods.is_empty() && table.with_terms == 0 {
        return None;
    }
    let mut weights: HashMap<Pair<'_>, i64> = HashMap::new();
    for node in table.nodes() {
        for other in node.pods.values() {
            weigh(&mut weights, pod, table, node, other);
        }
    }
    if weights.is_empty() {
        return None;
    }
    let sum = |node: &&Node| {
        let labels = node.labels.iter();
        labels.filter_map(|(key, value)| weights.get(&(key.as_str(), value.as_str()))).sum::<i64>()
    };
    let sums: Vec<i64> = nodes.iter().map(sum).collect();
    let (least, most) = (sums.iter().min().copied().unwrap_or(0), sums.iter().max().copied().unwrap_or(0));
    let scaled = |sum: &i64| if most == least { 0 } else { MAX_SCORE * (sum - least) / (most - least) };
    Some(sums.iter().map(scaled).collect())
}

/// What `other` being on `node` adds to its topologies, by the pod's preferences and by its own.
fn weigh<'a>(
    weights: &mut HashMap<Pair<'a>, i64>,
    pod: &'a PodInfo,
    table: &'a Table,
    node: &'a Node,
    other: &'a PodInfo,
) {
    let mut add = |key: &'a str, weight: i64| {
        if let Some(value) = node.labels.get(key) {
            *weights.entry((key, value)).or_default() += weight;
        }
    };
    for (weight, term) in pod.preferred_pods.iter().filter(|(_, term)| term.matches(other, &table.namespaces)) {
        add(&term.topology_key, *weight);
    }
    for (weight, term) in other.preferred_pods.iter().filter(|(_, term)| term.matches(pod, &table.namespaces)) {
        add(&term.topology_key, *weight);
    }
    for term in other.affinity.iter().filter(|term| term.matches(pod, &table.namespaces)) {
        add(&term.topology_key, HARD_WEIGHT);
    }
}
