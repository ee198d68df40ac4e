//! ImageLocality: nodes that have large images of the pod already are better.
//!
//! Must not know: how images get there.

use super::node::{Node, Table};
use super::{Cycle, MAX_SCORE};

const MIB: i64 = 1 << 20;
const LEAST: i64 = 23 * MIB;
const MOST_PER_CONTAINER: i64 = 1000 * MIB;

pub fn score(cycle: &Cycle<'_>, nodes: &[&Node]) -> Option<Vec<i64>> {
    let most = MOST_PER_CONTAINER * cycle.pod.images.len().max(1) as i64;
    let score = |node: &&Node| {
        let sum: i64 = cycle.pod.images.iter().map(|image| share(cycle.table, node, &full_name(image))).sum();
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    };
    Some(nodes.iter().map(score).collect())
}

/// An image that few nodes have counts for little, so that they do not attract everything.
fn share(table: &Table, node: &Node, image: &str) -> i64 {
    let size = node.images.get(image).copied().unwrap_or_default();
    let spread = table.nodes_with(image) as f64 / table.nodes().len().max(1) as f64;
    (size as f64 * spread) as i64
}

fn full_name(image: &str) -> String {
    let tagged = image.rfind(':').is_some_and(|at| Some(at) > image.rfind('/'));
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}
