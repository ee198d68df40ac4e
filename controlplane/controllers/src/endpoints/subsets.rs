//! A Service's Endpoints object: the older form of its EndpointSlices.
//!
//! Must not know: the API, clocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts;
use crate::pods;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one Endpoints object.
const MAX_ADDRESSES: usize = 1000;

/// The Endpoints wanted; None: `present` is right as it is.
pub fn plan(service: &Service, pods: &[Arc<Pod>], present: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let new = ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    let mut metadata = present.map_or(new, |present| present.metadata.clone());
    metadata.labels = Some(labels(service));
    let annotations = metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    metadata.annotations.take_if(|annotations| annotations.is_empty());
    let wanted = Endpoints { metadata, subsets: Some(subsets).filter(|subsets| !subsets.is_empty()) };
    (present != Some(&wanted)).then_some(wanted)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(facts::HEADLESS);
    if !facts::has_cluster_ip(service) {
        labels.insert(facts::HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

type PortKey = (String, i32, String, Option<String>);

/// Addresses with the same ports share a subset; everything is sorted, so that equal endpoints are equal objects.
fn subsets(service: &Service, all: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let tolerant = facts::publishes_not_ready(service);
    let mut groups: BTreeMap<Vec<PortKey>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let family = facts::families(service).into_iter().next().unwrap_or("IPv4");
    for pod in all.iter().filter(|pod| facts::belongs(pod, tolerant)) {
        let Some(address) = address(service, pod, family) else { continue };
        let ports = ports(service, pod);
        if ports.is_empty() && !(facts::ports(service).is_empty() && facts::is_headless(service)) {
            continue;
        }
        let (ready, not_ready) = groups.entry(ports).or_default();
        if tolerant || pods::is_ready(pod) { ready.push(address) } else { not_ready.push(address) }
    }
    groups.into_iter().map(|(ports, (ready, not_ready))| subset(ports, ready, not_ready)).collect()
}

fn subset(ports: Vec<PortKey>, ready: Vec<EndpointAddress>, not_ready: Vec<EndpointAddress>) -> EndpointSubset {
    let sorted = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|left, right| left.ip.cmp(&right.ip));
        Some(addresses).filter(|addresses| !addresses.is_empty())
    };
    let port = |(name, port, protocol, app_protocol): PortKey| EndpointPort {
        name: Some(name).filter(|name| !name.is_empty()),
        port,
        protocol: Some(protocol),
        app_protocol,
    };
    let ports: Vec<EndpointPort> = ports.into_iter().map(port).collect();
    EndpointSubset {
        addresses: sorted(ready),
        not_ready_addresses: sorted(not_ready),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

fn address(service: &Service, pod: &Pod, family: &str) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: facts::addresses(pod, family).into_iter().next()?,
        hostname: facts::hostname(pod, service),
        node_name: Some(pods::node_name(pod).to_owned()),
        target_ref: Some(facts::target_ref(pod)),
    })
}

fn ports(service: &Service, pod: &Pod) -> Vec<PortKey> {
    let ports = facts::ports(service).iter().filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((
            port.name.clone().unwrap_or_default(),
            facts::target_port(pod, port)?,
            protocol,
            port.app_protocol.clone(),
        ))
    });
    let mut ports: Vec<PortKey> = ports.collect();
    ports.sort();
    ports
}

/// Keeps the object within its limit, ready addresses first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let (mut room, mut truncated) = (MAX_ADDRESSES, false);
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        let Some(addresses) = addresses else { return };
        truncated |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| cut(&mut subset.not_ready_addresses));
    (subsets, truncated)
}
