//! One Service port of one family → the elements it needs. Facts and cases as upstream's nftables proxier.
//!
//! Must not know: other Services, and what the kernel holds.

use std::collections::HashMap;
use std::net::IpAddr;

use super::element::{Action, Elements, Frontend, Handling, Key, Lane, Masquerade, Range, Target, Value, family_of};
use crate::model::{Categories, Node, Port, PortEndpoint, Service, Wants, categorize};
use crate::range::outermost;
use pintle_nftables::Family;

/// What all Services of a family have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub family: Family,
    pub node: Node,
    /// Addresses of this node that accept node ports.
    pub node_port_addresses: Vec<IpAddr>,
    /// Are the pods' addresses known?
    pub pods_known: bool,
    pub masquerade_all: bool,
    /// Cluster IPs that a local socket answers: no element may be about them.
    pub served_here: Vec<IpAddr>,
}

/// The elements for `port` of `service`, whose number is `id`, sorted by key. `previous` are its elements before:
/// endpoints keep their index where they can, so that one endpoint's change is one element's.
pub fn elements(
    context: &Context,
    id: u32,
    service: &Service,
    port: &Port,
    endpoints: &[PortEndpoint<'_>],
    previous: &[(Key, Value)],
) -> Elements {
    let addresses = Addresses::of(context, service, port);
    let Some(cluster_ip) = addresses.cluster else { return Vec::new() };
    if !service.is_proxied() || context.served_here.contains(&cluster_ip) {
        return Vec::new();
    }
    let wants = wants(service, &addresses);
    let categories = categorize(endpoints, &context.node, wants);
    let mut found = Elements::new();
    let builder = Builder { context, id, service, port, categories: &categories };
    builder.internal(cluster_ip, &mut found);
    builder.external(&addresses, &mut found);
    builder.endpoints(previous, &mut found);
    found.sort_unstable();
    found.dedup_by_key(|(key, _)| *key);
    found
}

/// Where the Service port is reached, in one family.
struct Addresses {
    cluster: Option<IpAddr>,
    node_ports: Vec<Frontend>,
    external: Vec<Frontend>,
    balancers: Vec<Frontend>,
}

impl Addresses {
    fn of(context: &Context, service: &Service, port: &Port) -> Self {
        let mine = |address: &&IpAddr| family_of(**address) == context.family;
        let frontend =
            |address: &IpAddr, port_number| Frontend { address: *address, protocol: port.protocol, port: port_number };
        let at = |addresses: &[IpAddr], number| addresses.iter().filter(mine).map(|a| frontend(a, number)).collect();
        Self {
            cluster: service.cluster_ips.iter().find(mine).copied(),
            node_ports: port.node_port.map(|number| at(&context.node_port_addresses, number)).unwrap_or_default(),
            external: at(&service.external_ips, port.port),
            balancers: at(&service.load_balancer_ips, port.port),
        }
    }

    fn any_external(&self) -> bool {
        !(self.node_ports.is_empty() && self.external.is_empty() && self.balancers.is_empty())
    }
}

/// Even external traffic under policy Local needs the cluster's endpoints: pods and this host get them.
fn wants(service: &Service, addresses: &Addresses) -> Wants {
    Wants {
        cluster: !service.internal_local || addresses.any_external(),
        local: service.internal_local || (service.external_local && addresses.any_external()),
    }
}

struct Builder<'a> {
    context: &'a Context,
    id: u32,
    service: &'a Service,
    port: &'a Port,
    categories: &'a Categories,
}

impl Builder<'_> {
    fn group(&self, local: bool) -> u32 {
        self.id * 2 + u32::from(local)
    }

    /// The handling by one traffic policy; without endpoints it refuses.
    fn handling(&self, local: bool, masquerade: Masquerade) -> Handling {
        let targets = if local { &self.categories.local } else { &self.categories.cluster };
        let action = match (targets.is_empty(), self.categories.any) {
            (false, _) => Action::Accept,
            (true, true) => Action::Drop,
            (true, false) => Action::Reject,
        };
        Handling {
            group: self.group(local),
            count: targets.len() as u32,
            affinity: self.service.affinity.unwrap_or(0),
            action,
            masquerade,
            service: self.id,
        }
    }

    fn internal(&self, address: IpAddr, found: &mut Elements) {
        let masquerade = match (self.context.masquerade_all, self.context.pods_known) {
            (true, _) => Masquerade::Always,
            (false, true) => Masquerade::UnlessPod,
            (false, false) => Masquerade::Never,
        };
        let frontend = Frontend { address, protocol: self.port.protocol, port: self.port.port };
        let handling = self.handling(self.service.internal_local, masquerade);
        found.push((Key::ClusterIp(address), Value::None));
        found.push((Key::Frontend(Lane::Cluster, frontend), Value::Handling(handling)));
    }

    fn external(&self, addresses: &Addresses, found: &mut Elements) {
        for frontend in addresses.node_ports.iter().chain(&addresses.external) {
            self.external_frontend(*frontend, false, found);
        }
        for frontend in &addresses.balancers {
            let fenced = !self.service.source_ranges.is_empty();
            self.external_frontend(*frontend, fenced, found);
            if fenced {
                found.extend(self.allowed(*frontend));
            }
        }
    }

    fn external_frontend(&self, frontend: Frontend, fenced: bool, found: &mut Elements) {
        let fence = |mut handling: Handling| {
            if fenced && handling.action == Action::Accept {
                handling.action = Action::Firewall;
            }
            Value::Handling(handling)
        };
        let local = self.service.external_local;
        let masquerade = if local { Masquerade::IfHost } else { Masquerade::Always };
        found.push((Key::Frontend(Lane::Cluster, frontend), fence(self.handling(false, masquerade))));
        if local {
            found.push((Key::Frontend(Lane::Local, frontend), fence(self.handling(true, masquerade))));
        }
    }

    /// The source ranges; and the balancer's own address where this node is allowed, since a balancer's address that is
    /// also on this host is what the host's own connections come from.
    fn allowed(&self, frontend: Frontend) -> impl Iterator<Item = (Key, Value)> {
        let mut ranges: Vec<Range> = self.service.source_ranges.clone();
        ranges.retain(|range| family_of(range.first) == self.context.family);
        let node_allowed = self.context.node.addresses.iter().any(|a| ranges.iter().any(|range| range.contains(*a)));
        if node_allowed {
            ranges.push(Range::single(frontend.address));
        }
        outermost(ranges).into_iter().map(move |range| (Key::AllowedSource(frontend, range), Value::None))
    }

    fn endpoints(&self, previous: &[(Key, Value)], found: &mut Elements) {
        for (local, targets) in [(false, &self.categories.cluster), (true, &self.categories.local)] {
            let group = self.group(local);
            let slots = assign_slots(&slots_of(previous, group), targets);
            for (index, target) in slots.into_iter().enumerate() {
                found.push((Key::Endpoint { group, index: index as u32 }, Value::Target(target)));
                if self.service.affinity.is_some() {
                    found.push((Key::Member { group, target }, Value::None));
                }
            }
        }
        let hairpins = self.categories.here.iter().map(|target| (Key::Hairpin(target.address), Value::None));
        found.extend(hairpins);
    }
}

/// The targets by index that `elements` hold for the group.
fn slots_of(elements: &[(Key, Value)], group: u32) -> Vec<Target> {
    let of_group = |(key, value): &(Key, Value)| match (key, value) {
        (Key::Endpoint { group: found, .. }, Value::Target(target)) if *found == group => Some(*target),
        _ => None,
    };
    elements.iter().filter_map(of_group).collect()
}

/// Gives each wanted target an index in `0..wanted.len()`: those that stay keep theirs where it is still in range,
/// others fill the holes.
pub fn assign_slots(previous: &[Target], wanted: &[Target]) -> Vec<Target> {
    let mut slots: Vec<Option<Target>> = vec![None; wanted.len()];
    let mut missing: HashMap<Target, ()> = wanted.iter().map(|target| (*target, ())).collect();
    for (slot, target) in slots.iter_mut().zip(previous) {
        if missing.remove(target).is_some() {
            *slot = Some(*target);
        }
    }
    let mut rest = wanted.iter().filter(|target| missing.contains_key(target));
    slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next().copied())).collect()
}
