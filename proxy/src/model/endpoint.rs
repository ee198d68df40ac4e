//! An EndpointSlice, reduced, and a Service port's endpoints over all its slices.
//!
//! Must not know: Services' fields.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as discovery;

use crate::plan::element::{Protocol, Target, family_of};
use pintle_nftables::Family;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// None means every port; only names use such a port.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub hostname: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub zone_hints: Vec<Arc<str>>,
    pub node_hints: Vec<Arc<str>>,
}

impl Endpoint {
    /// An endpoint without a node that serves.
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            hostname: None,
            node: None,
            ready: true,
            serving: true,
            terminating: false,
            zone_hints: Vec::new(),
            node_hints: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    pub fn reduce(slice: &discovery::EndpointSlice) -> Self {
        Self {
            ports: slice.ports.iter().flatten().filter_map(reduce_port).collect(),
            endpoints: slice.endpoints.iter().flatten().filter_map(reduce_endpoint).collect(),
        }
    }
}

fn reduce_port(port: &discovery::EndpointPort) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: port.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
    })
}

/// Only the first address counts, as upstream.
fn reduce_endpoint(endpoint: &discovery::Endpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let hints = endpoint.hints.clone().unwrap_or_default();
    Some(Endpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        hostname: endpoint.hostname.as_deref().filter(|name| !name.is_empty()).map(Into::into),
        node: endpoint.node_name.as_deref().map(Into::into),
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        zone_hints: hints.for_zones.iter().flatten().map(|zone| zone.name.as_str().into()).collect(),
        node_hints: hints.for_nodes.iter().flatten().map(|node| node.name.as_str().into()).collect(),
    })
}

/// An endpoint of one Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortEndpoint<'a> {
    pub target: Target,
    pub endpoint: &'a Endpoint,
}

impl<'a> PortEndpoint<'a> {
    /// The endpoints of the port with this name and protocol, of one family, sorted by target. Of two with the same
    /// target one that is not terminating wins: a pod's address may be used again before the old pod is gone.
    pub fn of(
        slices: impl Iterator<Item = &'a Slice>,
        name: &str,
        protocol: Protocol,
        family: Family,
    ) -> Vec<PortEndpoint<'a>> {
        let mut found: BTreeMap<Target, &'a Endpoint> = BTreeMap::new();
        for slice in slices {
            let ports = slice.ports.iter().filter(|port| &*port.name == name && port.protocol == protocol);
            for port in ports.filter_map(|port| port.port) {
                for endpoint in slice.endpoints.iter().filter(|endpoint| family_of(endpoint.address) == family) {
                    let kept = found.entry(Target { address: endpoint.address, port }).or_insert(endpoint);
                    if !endpoint.terminating {
                        *kept = endpoint;
                    }
                }
            }
        }
        found.into_iter().map(|(target, endpoint)| PortEndpoint { target, endpoint }).collect()
    }
}
