//! Which of a Service port's endpoints this node may use, by readiness, traffic policy and topology hints.
//!
//! As upstream's `pkg/proxy/topology.go`. Must not know: rules.

use super::{Node, PortEndpoint};
use crate::plan::element::Target;

/// What the traffic policies of a Service port ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants {
    pub cluster: bool,
    pub local: bool,
}

/// A Service port's usable endpoints, sorted by target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Categories {
    /// For traffic policy Cluster.
    pub cluster: Vec<Target>,
    /// For traffic policy Local.
    pub local: Vec<Target>,
    /// Those of both lists that are on this node.
    pub here: Vec<Target>,
    /// Is there any usable endpoint, on whatever node?
    pub any: bool,
}

/// Sorts the endpoints of one Service port. Without a ready endpoint, those that terminate but still serve are used.
pub fn categorize(endpoints: &[PortEndpoint<'_>], node: &Node, wants: Wants) -> Categories {
    let here = |e: &&PortEndpoint<'_>| e.endpoint.node.as_deref() == Some(node.name.as_str());
    let ready = |e: &&PortEndpoint<'_>| e.endpoint.ready;
    let last_resort = |e: &&PortEndpoint<'_>| !e.endpoint.ready && e.endpoint.serving && e.endpoint.terminating;
    let targets = |found: Vec<&PortEndpoint<'_>>| found.into_iter().map(|e| e.target).collect::<Vec<_>>();

    let mut cluster = Vec::new();
    let mut local = Vec::new();
    if wants.cluster {
        let topology = Topology::of(endpoints, node);
        cluster = targets(endpoints.iter().filter(ready).filter(|e| topology.allows(e, node)).collect());
        if cluster.is_empty() {
            cluster = targets(endpoints.iter().filter(last_resort).collect());
        }
    }
    if wants.local {
        local = targets(endpoints.iter().filter(ready).filter(here).collect());
        if local.is_empty() {
            local = targets(endpoints.iter().filter(last_resort).filter(here).collect());
        }
    }
    let usable = endpoints.iter().filter(|e| ready(e) || last_resort(e));
    let any = !cluster.is_empty() || (wants.local && usable.count() > 0);
    let used = |e: &&PortEndpoint<'_>| cluster.contains(&e.target) || local.contains(&e.target);
    let here = targets(endpoints.iter().filter(here).filter(used).collect());
    Categories { cluster, local, here, any }
}

/// Which hints the endpoints are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    None,
    SameNode,
    SameZone,
}

impl Topology {
    /// Hints count only when every ready endpoint has them and one is for here.
    fn of(endpoints: &[PortEndpoint<'_>], node: &Node) -> Self {
        let ready: Vec<_> = endpoints.iter().filter(|e| e.endpoint.ready).collect();
        if ready.is_empty() {
            return Self::None;
        }
        if ready.iter().all(|e| !e.endpoint.node_hints.is_empty())
            && ready.iter().any(|e| Self::SameNode.allows(e, node))
        {
            return Self::SameNode;
        }
        if ready.iter().all(|e| !e.endpoint.zone_hints.is_empty())
            && ready.iter().any(|e| Self::SameZone.allows(e, node))
        {
            return Self::SameZone;
        }
        Self::None
    }

    fn allows(self, endpoint: &PortEndpoint<'_>, node: &Node) -> bool {
        match self {
            Self::None => true,
            Self::SameNode => endpoint.endpoint.node_hints.iter().any(|hint| **hint == *node.name),
            Self::SameZone => endpoint.endpoint.zone_hints.iter().any(|hint| **hint == *node.zone),
        }
    }
}
