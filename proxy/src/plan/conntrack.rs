//! PURE: which UDP flows point to endpoints that are none any more.
//!
//! As upstream's conntrack reconciler: traffic policy and topology do not end existing flows, and a Service without any
//! endpoint leaves its flows alone. Must not know: netlink.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::element::{Frontend, Protocol, Target, family_of};
use crate::model::{Model, PortEndpoint, ServiceName};
use pintle_nftables::Family;

/// A UDP flow: where the client sends, and who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub frontend: Frontend,
    pub answers: Target,
}

/// Who may answer for a frontend.
pub type Serving = HashMap<Frontend, HashSet<Target>>;

/// The serving endpoints of the named Services' UDP ports, by frontend.
pub fn serving<'a>(
    model: &Model,
    names: impl Iterator<Item = &'a ServiceName>,
    family: Family,
    node_port_addresses: &[IpAddr],
) -> Serving {
    let mut serving = Serving::new();
    for name in names {
        let Some(service) = model.service(name).filter(|service| service.is_proxied()) else { continue };
        for port in service.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
            let endpoints = PortEndpoint::of(model.slices(name), &port.name, port.protocol, family);
            let targets: HashSet<Target> =
                endpoints.iter().filter(|endpoint| endpoint.endpoint.serving).map(|endpoint| endpoint.target).collect();
            if targets.is_empty() {
                continue;
            }
            let own = [&service.cluster_ips, &service.external_ips, &service.load_balancer_ips];
            let own = own.into_iter().flatten().map(|address| (*address, port.port));
            let node = port.node_port.into_iter().flat_map(|n| node_port_addresses.iter().map(move |a| (*a, n)));
            for (address, port) in own.chain(node).filter(|(address, _)| family_of(*address) == family) {
                serving.insert(Frontend { address, protocol: Protocol::Udp, port }, targets.clone());
            }
        }
    }
    serving
}

/// Does the flow go to a frontend of these, but to none of its serving endpoints?
pub fn is_stale(flow: &Flow, serving: &Serving) -> bool {
    serving.get(&flow.frontend).is_some_and(|targets| !targets.contains(&flow.answers))
}
