//! What the API says, put into the model: which Services that concerns.
//!
//! Must not know: rules.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::ResourceExt as _;
use kube::runtime::watcher;
use pintle_client::{Change, Reflector, Subscription};
use tokio_util::sync::CancellationToken;

use crate::model::{Model, Node, Service, ServiceName, Slice};
use crate::plan::element::Range;
use crate::range::parse_range;

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The four watches.
pub struct Sources {
    services: (Reflector<core::Service>, Subscription<core::Service>),
    slices: (Reflector<EndpointSlice>, Subscription<EndpointSlice>),
    nodes: (Reflector<core::Node>, Subscription<core::Node>),
    ranges: (Reflector<ServiceCIDR>, Subscription<ServiceCIDR>),
}

/// What a change of the model concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub services: BTreeSet<ServiceName>,
    /// This node, as it is now.
    pub node: Option<NodeState>,
    /// Where Services' addresses come from, as it is now.
    pub service_cidrs: Option<Vec<Range>>,
    pub service_changes: u64,
    pub slice_changes: u64,
}

/// What the proxy wants of its Node object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    pub node: Node,
    pub deleting: bool,
}

/// Changes as they came from one watch.
pub enum Batch {
    Services(Vec<Change<core::Service>>),
    Slices(Vec<Change<EndpointSlice>>),
    Nodes(Vec<Change<core::Node>>),
    /// Every range that there is now.
    Ranges(Vec<Range>),
}

impl Sources {
    pub fn start(client: &kube::Client, node: &str, cancel: &CancellationToken) -> Self {
        let api = |client: &kube::Client| kube::Api::all(client.clone());
        let services = Reflector::start_trimmed(api(client), watcher::Config::default(), cancel.clone(), trim_service);
        let slices = Reflector::start_trimmed(
            kube::Api::all(client.clone()),
            watcher::Config::default(),
            cancel.clone(),
            trim_slice,
        );
        let only_ours = watcher::Config::default().fields(&format!("metadata.name={node}"));
        let nodes = Reflector::start(kube::Api::all(client.clone()), only_ours, cancel.clone());
        let ranges = Reflector::start(kube::Api::all(client.clone()), watcher::Config::default(), cancel.clone());
        let (s, e, n, r) = (services.subscribe(), slices.subscribe(), nodes.subscribe(), ranges.subscribe());
        Self { services: (services, s), slices: (slices, e), nodes: (nodes, n), ranges: (ranges, r) }
    }

    /// Everything there is at the start, once the lists are complete; the ranges, which older API servers do not have,
    /// come later.
    pub async fn initial(&mut self) -> Vec<Batch> {
        tokio::join!(self.services.0.synced(), self.slices.0.synced(), self.nodes.0.synced());
        let mut batches = Vec::new();
        if !self.services.0.is_empty() {
            batches.extend(self.services.1.next().await.map(Batch::Services));
        }
        if !self.slices.0.is_empty() {
            batches.extend(self.slices.1.next().await.map(Batch::Slices));
        }
        if !self.nodes.0.is_empty() {
            batches.extend(self.nodes.1.next().await.map(Batch::Nodes));
        }
        batches
    }

    /// What changed since; None when the watches have ended.
    pub async fn next(&mut self) -> Option<Batch> {
        tokio::select! {
            changes = self.services.1.next() => changes.map(Batch::Services),
            changes = self.slices.1.next() => changes.map(Batch::Slices),
            changes = self.nodes.1.next() => changes.map(Batch::Nodes),
            changes = self.ranges.1.next() => changes.map(|_| Batch::Ranges(ranges_of(&self.ranges.0))),
        }
    }
}

fn ranges_of(reflector: &Reflector<ServiceCIDR>) -> Vec<Range> {
    let mut found = Vec::new();
    reflector.for_each(|object| {
        let cidrs = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
        found.extend(cidrs.filter_map(|cidr| parse_range(cidr)));
    });
    found
}

/// Puts the batch into the model and notes what it concerns.
pub fn apply(model: &mut Model, batch: Batch, touched: &mut Touched) {
    match batch {
        Batch::Services(changes) => {
            touched.service_changes += changes.len() as u64;
            changes.into_iter().for_each(|change| apply_service(model, &change, touched));
        }
        Batch::Slices(changes) => {
            touched.slice_changes += changes.len() as u64;
            changes.into_iter().for_each(|change| apply_slice(model, &change, touched));
        }
        Batch::Ranges(ranges) => touched.service_cidrs = Some(ranges),
        Batch::Nodes(changes) => {
            if let Some(change) = changes.last() {
                let gone = matches!(change, Change::Deleted(_));
                touched.node = Some(node_state(change.object(), gone));
            }
        }
    }
}

fn apply_service(model: &mut Model, change: &Change<core::Service>, touched: &mut Touched) {
    let object = change.object();
    let name = ServiceName::new(&object.namespace().unwrap_or_default(), &object.name_any());
    match change {
        Change::Deleted(_) => model.remove_service(&name),
        _ => model.set_service(name.clone(), Service::reduce(object)),
    }
    touched.services.insert(name);
}

fn apply_slice(model: &mut Model, change: &Change<EndpointSlice>, touched: &mut Touched) {
    let before = match change {
        Change::Modified { old, .. } | Change::Deleted(old) => service_of(old),
        Change::Added(_) => None,
    };
    let object = change.object();
    let after = if matches!(change, Change::Deleted(_)) { None } else { service_of(object) };
    if let Some(name) = before.filter(|name| Some(name) != after.as_ref()) {
        model.remove_slice(&name, &object.name_any());
        touched.services.insert(name);
    }
    if let Some(name) = after {
        model.set_slice(&name, &object.name_any(), Slice::reduce(object));
        touched.services.insert(name);
    }
}

fn service_of(slice: &EndpointSlice) -> Option<ServiceName> {
    let name = slice.labels().get(SERVICE_NAME).filter(|name| !name.is_empty())?;
    Some(ServiceName::new(&slice.namespace().unwrap_or_default(), name))
}

fn node_state(node: &core::Node, gone: bool) -> NodeState {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    NodeState {
        node: Node {
            name: node.name_any(),
            zone: node.labels().get(ZONE).cloned().unwrap_or_default(),
            addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        },
        deleting: gone || node.metadata.deletion_timestamp.is_some(),
    }
}

fn trim_service(service: &mut core::Service) {
    service.metadata.annotations = None;
    service.metadata.owner_references = None;
    service.metadata.finalizers = None;
    if let Some(spec) = service.spec.as_mut() {
        spec.selector = None;
    }
    if let Some(status) = service.status.as_mut() {
        status.conditions = None;
    }
}

fn trim_slice(slice: &mut EndpointSlice) {
    slice.metadata.annotations = None;
    slice.metadata.owner_references = None;
    slice.metadata.finalizers = None;
    for endpoint in slice.endpoints.iter_mut().flatten() {
        endpoint.target_ref = None;
        endpoint.deprecated_topology = None;
        endpoint.zone = None;
    }
}
