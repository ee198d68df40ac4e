//! PURE: Services, endpoints and this node, reduced to what packets and names need. Rules and DNS read the same model.
//!
//! Must not know: how either is served, and where the objects come from.

mod endpoint;
mod service;
mod topology;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use endpoint::{Endpoint, PortEndpoint, Slice, SlicePort};
pub use service::{Port, Service};
pub use topology::{Categories, Wants, categorize};

/// A Service's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ServiceName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// This node as its Node object describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// `status.addresses` of type InternalIP, in order: the first of a family is the primary one.
    pub addresses: Vec<IpAddr>,
}

/// Everything the proxy knows.
#[derive(Debug, Default)]
pub struct Model {
    services: HashMap<ServiceName, Service>,
    slices: HashMap<ServiceName, BTreeMap<Arc<str>, Slice>>,
    namespaces: BTreeMap<Arc<str>, usize>,
    by_cluster_ip: HashMap<IpAddr, ServiceName>,
    by_endpoint: HashMap<IpAddr, BTreeSet<ServiceName>>,
}

impl Model {
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name)
    }

    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &Service)> {
        self.services.iter()
    }

    /// The Service's slices, by slice name.
    pub fn slices(&self, name: &ServiceName) -> impl Iterator<Item = &Slice> {
        self.slices.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// Does any Service live there?
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    pub fn by_cluster_ip(&self, address: IpAddr) -> Option<&ServiceName> {
        self.by_cluster_ip.get(&address)
    }

    /// The Services that have an endpoint at the address.
    pub fn by_endpoint(&self, address: IpAddr) -> impl Iterator<Item = &ServiceName> {
        self.by_endpoint.get(&address).into_iter().flatten()
    }

    /// Adds or replaces.
    pub fn set_service(&mut self, name: ServiceName, service: Service) {
        self.remove_service(&name);
        for address in &service.cluster_ips {
            self.by_cluster_ip.insert(*address, name.clone());
        }
        *self.namespaces.entry(name.namespace.clone()).or_default() += 1;
        self.services.insert(name, service);
    }

    pub fn remove_service(&mut self, name: &ServiceName) {
        let Some(service) = self.services.remove(name) else { return };
        for address in &service.cluster_ips {
            if self.by_cluster_ip.get(address) == Some(name) {
                self.by_cluster_ip.remove(address);
            }
        }
        if let Some(count) = self.namespaces.get_mut(&name.namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&name.namespace);
            }
        }
    }

    /// Adds or replaces the slice `slice_name` of the Service.
    pub fn set_slice(&mut self, name: &ServiceName, slice_name: &str, slice: Slice) {
        self.remove_slice(name, slice_name);
        for endpoint in &slice.endpoints {
            self.by_endpoint.entry(endpoint.address).or_default().insert(name.clone());
        }
        self.slices.entry(name.clone()).or_default().insert(slice_name.into(), slice);
    }

    pub fn remove_slice(&mut self, name: &ServiceName, slice_name: &str) {
        let Some(slices) = self.slices.get_mut(name) else { return };
        let Some(removed) = slices.remove(slice_name) else { return };
        let kept: Vec<IpAddr> = slices.values().flat_map(|slice| slice.endpoints.iter().map(|e| e.address)).collect();
        if slices.is_empty() {
            self.slices.remove(name);
        }
        for address in removed.endpoints.iter().map(|endpoint| endpoint.address) {
            if kept.contains(&address) {
                continue;
            }
            let Some(names) = self.by_endpoint.get_mut(&address) else { continue };
            names.remove(name);
            if names.is_empty() {
                self.by_endpoint.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(addresses: &[&str]) -> Slice {
        let endpoints = addresses.iter().filter_map(|a| a.parse().ok()).map(Endpoint::ready).collect();
        Slice { ports: Vec::new(), endpoints }
    }

    #[test]
    fn an_endpoint_in_two_slices_is_known_until_both_are_gone() {
        let mut model = Model::default();
        let web = ServiceName::new("default", "web");
        let address: IpAddr = IpAddr::from([10, 244, 0, 5]);
        model.set_slice(&web, "a", slice(&["10.244.0.5"]));
        model.set_slice(&web, "b", slice(&["10.244.0.5", "10.244.0.6"]));
        model.remove_slice(&web, "a");
        assert_eq!(model.by_endpoint(address).collect::<Vec<_>>(), [&web]);
        model.set_slice(&web, "b", slice(&["10.244.0.6"]));
        assert_eq!(model.by_endpoint(address).count(), 0);
    }

    #[test]
    fn a_namespace_is_known_while_a_service_lives_there() {
        let mut model = Model::default();
        let web = ServiceName::new("shop", "web");
        model.set_service(web.clone(), Service::default());
        model.set_service(web.clone(), Service::default());
        assert!(model.has_namespace("shop"));
        model.remove_service(&web);
        assert!(!model.has_namespace("shop"));
    }
}
