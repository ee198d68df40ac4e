//! What a pod contributes to a Service: addresses, ports, host name, readiness.
//!
//! Must not know: the API, EndpointSlices, Endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

/// Marks endpoint objects of Services without a cluster IP.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// The Service's selector. None: its endpoints are somebody else's business.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|_| !external)
}

pub fn selects(service: &Service, pod: &Pod) -> bool {
    let label = |key: &str| pod.metadata.labels.as_ref()?.get(key);
    selector(service).is_some_and(|selector| selector.iter().all(|(key, value)| label(key) == Some(value)))
}

pub fn has_cluster_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    !ip.is_empty() && ip != "None"
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

pub fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// `IPv4` and `IPv6`, as the Service has them.
pub fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let families = named.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" });
    let families: Vec<&str> = families.collect();
    let first = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    match families.is_empty() {
        true if first.contains(':') => vec!["IPv6"],
        true => vec!["IPv4"],
        false => families,
    }
}

/// The pod's addresses of one family, in canonical form.
pub fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    let parsed = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
    parsed.filter(|ip| ip.is_ipv6() == (family == "IPv6")).map(|ip| ip.to_string()).collect()
}

/// The number of a Service's target port on this pod; None where a named one does not exist.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let all = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut named = all.filter(|own| own.name.as_ref() == Some(name));
    named.find(|own| own.protocol.as_deref().unwrap_or("TCP") == protocol).map(|own| own.container_port)
}

/// Whether the pod belongs into endpoints at all: it has addresses and has not ended.
pub fn belongs(pod: &Pod, with_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let has_ip = status.is_some_and(|status| {
        status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
            || status.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    has_ip && !pods::is_terminal(pod) && (with_terminating || !pods::is_terminating(pod))
}

/// The name under which a headless Service knows the pod.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.subdomain.as_ref() == service.metadata.name.as_ref();
    spec.hostname.clone().filter(|hostname| own && !hostname.is_empty())
}

pub fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Whether nothing that endpoints show differs.
pub fn is_same(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let names = spec.map(|spec| (spec.node_name.clone(), spec.hostname.clone(), spec.subdomain.clone()));
        let status = pod.status.as_ref().map(|status| (status.pod_ip.clone(), status.pod_ips.clone()));
        let state = (pods::is_ready(pod), pods::is_terminating(pod), pods::is_terminal(pod));
        (pod.metadata.labels.clone(), names, status, state)
    };
    facts(old) == facts(new)
}
