//! Which EndpointSlices a Service needs, and how to get there from those that exist with few changes (upstream's
//! staging/endpointslice).
//!
//! Must not know: the API, clocks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts;
use crate::{owner, pods};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Endpoints per slice.
const MAX_ENDPOINTS: usize = 100;

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
    /// A pod's node is not known (yet): plan again soon.
    pub missing_node: bool,
}

/// What a Service's slices are made from.
pub struct Seen<'a> {
    pub service: &'a Service,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The slices that carry its name and this controller's.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The zones (None: without one) of the nodes that exist.
    pub zones: &'a HashMap<String, Option<String>>,
}

/// Ports, as far as they tell groups of slices apart.
pub type PortKey = Vec<(String, Option<i32>, String, Option<String>)>;

pub fn plan(seen: &Seen<'_>) -> Plan {
    let families = facts::families(seen.service);
    let mut plan = Plan::default();
    for family in &families {
        plan_family(seen, family, &mut plan);
    }
    let unsupported = seen.slices.iter().filter(|slice| !families.contains(&slice.address_type.as_str()));
    plan.delete.extend(unsupported.cloned());
    plan
}

fn plan_family(seen: &Seen<'_>, family: &str, plan: &mut Plan) {
    let (ports, mut wanted) = wanted(seen, family, plan);
    let existing: Vec<&Arc<EndpointSlice>> = seen.slices.iter().filter(|slice| slice.address_type == family).collect();
    let before = (plan.create.len(), plan.delete.len());
    let mut groups: BTreeMap<PortKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in &existing {
        let key = key(slice.ports.as_deref().unwrap_or_default());
        if is_owned(slice, seen.service) && wanted.contains_key(&key) {
            groups.entry(key).or_default().push((*slice).clone());
        } else {
            plan.delete.push((*slice).clone());
        }
    }
    for (key, ports) in ports {
        let endpoints = wanted.remove(&key).unwrap_or_default();
        let blank = new_slice(seen.service, family, ports);
        fill(groups.remove(&key).unwrap_or_default(), endpoints, &blank, plan);
    }
    let nothing_left = plan.delete.len() - before.1 == existing.len() && plan.create.len() == before.0;
    if nothing_left {
        keep_placeholder(new_slice(seen.service, family, Vec::new()), before.1, plan);
    }
}

/// A Service without endpoints has one empty slice per family.
fn keep_placeholder(placeholder: EndpointSlice, deleted_before: usize, plan: &mut Plan) {
    if let [only] = &plan.delete[deleted_before..]
        && is_placeholder(only, &placeholder)
    {
        plan.delete.pop();
    } else {
        plan.create.push(placeholder);
    }
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    slice.endpoints.as_ref().is_none_or(|endpoints| endpoints.is_empty())
        && slice.ports.as_ref().is_none_or(|ports| ports.is_empty())
        && slice.metadata.labels == placeholder.metadata.labels
        && slice.metadata.owner_references == placeholder.metadata.owner_references
}

type Ports = BTreeMap<PortKey, Vec<EndpointPort>>;

/// The endpoints wanted, by their ports.
fn wanted(seen: &Seen<'_>, family: &str, plan: &mut Plan) -> (Ports, BTreeMap<PortKey, Vec<Endpoint>>) {
    let (mut ports, mut wanted) = (Ports::new(), BTreeMap::<PortKey, Vec<Endpoint>>::new());
    for pod in seen.pods.iter().filter(|pod| facts::belongs(pod, true)) {
        let own = endpoint_ports(seen.service, pod);
        let key = key(&own);
        ports.entry(key.clone()).or_insert(own);
        let group = wanted.entry(key).or_default();
        let zone = seen.zones.get(pods::node_name(pod));
        if zone.is_none() && !facts::publishes_not_ready(seen.service) {
            plan.missing_node = true;
            continue;
        }
        let endpoint = endpoint(seen.service, pod, family, zone.cloned().flatten());
        if !endpoint.addresses.is_empty() {
            group.push(endpoint);
        }
    }
    (ports, wanted)
}

fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = facts::ports(service).iter().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(facts::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    ports.collect()
}

pub fn key(ports: &[EndpointPort]) -> PortKey {
    let part = |port: &EndpointPort| {
        let (name, protocol) = (port.name.clone(), port.protocol.clone());
        (name.unwrap_or_default(), port.port, protocol.unwrap_or_default(), port.app_protocol.clone())
    };
    let mut key: PortKey = ports.iter().map(part).collect();
    key.sort();
    key
}

fn endpoint(service: &Service, pod: &Pod, family: &str, zone: Option<String>) -> Endpoint {
    let (serving, terminating) = (pods::is_ready(pod), pods::is_terminating(pod));
    let ready = facts::publishes_not_ready(service) || (serving && !terminating);
    let node = Some(pods::node_name(pod).to_owned()).filter(|node| !node.is_empty());
    Endpoint {
        addresses: facts::addresses(pod, family),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: if ready { hints(service, node.as_deref(), zone.as_deref()) } else { None },
        hostname: facts::hostname(pod, service),
        node_name: node,
        target_ref: Some(facts::target_ref(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// Who should use an endpoint, as the Service's trafficDistribution wishes.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let wish = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    match wish {
        "PreferClose" | "PreferSameZone" => for_zones.is_some().then_some(EndpointHints { for_zones, for_nodes: None }),
        "PreferSameNode" => {
            let for_nodes = Some(vec![ForNode { name: node?.to_owned() }]);
            Some(EndpointHints { for_zones, for_nodes })
        }
        _ => None,
    }
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let mut owners = slice.metadata.owner_references.iter().flatten();
    owners.any(|owner| Some(&owner.uid) == service.metadata.uid.as_ref() && owner.kind == "Service")
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(facts::HEADLESS);
    if !facts::has_cluster_ip(service) {
        labels.insert(facts::HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn new_slice(service: &Service, family: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.metadata.name.as_deref().unwrap_or_default())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}

/// What tells one endpoint from another.
fn identity(endpoint: &Endpoint) -> (Vec<String>, Option<String>) {
    (endpoint.addresses.clone(), endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()))
}

/// Brings the slices of one group of ports to the endpoints wanted: those that stay stay where they are, new ones go
/// into slices that change anyway, then into the fullest that has room for all, then into new slices.
pub fn fill(slices: Vec<Arc<EndpointSlice>>, wanted: Vec<Endpoint>, blank: &EndpointSlice, plan: &mut Plan) {
    let mut left: BTreeMap<_, Endpoint> = wanted.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut drafts: Vec<(Arc<EndpointSlice>, EndpointSlice)> = Vec::new();
    for slice in slices {
        let mut draft = slice.as_ref().clone();
        let kept = slice.endpoints.iter().flatten().filter_map(|endpoint| left.remove(&identity(endpoint)));
        draft.endpoints = Some(kept.collect());
        draft.metadata.labels.clone_from(&blank.metadata.labels);
        drafts.push((slice, draft));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    for (_, draft) in drafts.iter_mut().filter(|(slice, draft)| slice.as_ref() != draft && size(draft) > 0) {
        top_up(draft, &mut left);
    }
    while left.len() >= MAX_ENDPOINTS {
        plan.create.push(filled(blank, left.drain(..MAX_ENDPOINTS).collect()));
    }
    if !left.is_empty() {
        let room = drafts.iter_mut().map(|(_, draft)| draft).filter(|draft| size(draft) + left.len() <= MAX_ENDPOINTS);
        match room.max_by_key(|draft| size(draft)) {
            Some(draft) => top_up(draft, &mut left),
            None => plan.create.push(filled(blank, std::mem::take(&mut left))),
        }
    }
    for (slice, draft) in drafts {
        if size(&draft) == 0 {
            plan.delete.push(slice);
        } else if slice.as_ref() != &draft {
            plan.update.push(draft);
        }
    }
}

fn size(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn top_up(slice: &mut EndpointSlice, left: &mut Vec<Endpoint>) {
    let room = MAX_ENDPOINTS.saturating_sub(size(slice)).min(left.len());
    slice.endpoints.get_or_insert_default().extend(left.drain(..room));
}

fn filled(blank: &EndpointSlice, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice { endpoints: Some(endpoints), ..blank.clone() }
}
