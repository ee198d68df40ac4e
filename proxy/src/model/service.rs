//! A Service, reduced.
//!
//! Must not know: its endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::plan::element::{Protocol, Range};
use crate::range::parse_range;

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10_800;
/// The label of Services that another proxy serves.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Empty when the Service has one port without a name.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Empty for headless Services and for type ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Of type ExternalName only.
    pub external_name: Option<Arc<str>>,
    pub publish_not_ready: bool,
    pub ports: Vec<Port>,
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` in mode VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Empty when every source is allowed.
    pub source_ranges: Vec<Range>,
    /// Seconds, with `sessionAffinity: ClientIP`.
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_node_port: Option<u16>,
    /// Served by another proxy: names only.
    pub other_proxy: bool,
}

impl Service {
    pub fn reduce(service: &core::Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let external = kind == "ExternalName";
        let cluster_ips = if external { Vec::new() } else { cluster_ips(&spec) };
        let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
        let reachable = !external && (kind != "ClusterIP" || spec.external_ips.as_ref().is_some_and(|i| !i.is_empty()));
        let external_local = reachable && is(&spec.external_traffic_policy, "Local");
        Self {
            headless: !external && is(&spec.cluster_ip, "None"),
            external_name: spec.external_name.as_deref().filter(|_| external).map(Into::into),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            ports: spec.ports.iter().flatten().filter_map(reduce_port).collect(),
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips: load_balancer_ips(service),
            source_ranges: source_ranges(&spec),
            affinity: affinity(&spec),
            internal_local: is(&spec.internal_traffic_policy, "Local"),
            external_local,
            health_check_node_port: health_check_node_port(&spec).filter(|_| external_local),
            other_proxy: service.metadata.labels.iter().flatten().any(|(key, _)| key == PROXY_NAME),
            cluster_ips,
        }
    }

    /// Do packets need rules for it?
    pub fn is_proxied(&self) -> bool {
        !self.cluster_ips.is_empty() && !self.other_proxy
    }
}

fn cluster_ips(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    let listed = addresses(spec.cluster_ips.iter().flatten());
    if listed.is_empty() { addresses(spec.cluster_ip.iter()) } else { listed }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn reduce_port(port: &core::ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
    })
}

fn load_balancer_ips(service: &core::Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    // mode Proxy: the balancer wants to see its own traffic (KEP-1860)
    let in_mode_vip = ingress.filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
    addresses(in_mode_vip.filter_map(|ingress| ingress.ip.as_ref()))
}

/// A range of all addresses is as good as none.
fn source_ranges(spec: &core::ServiceSpec) -> Vec<Range> {
    let texts = spec.load_balancer_source_ranges.iter().flatten();
    let ranges: Vec<Range> = texts.filter_map(|text| parse_range(text.trim())).collect();
    let everything = ["0.0.0.0/0", "::/0"].map(parse_range);
    if ranges.iter().any(|range| everything.contains(&Some(*range))) { Vec::new() } else { ranges }
}

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client_ip.and_then(|client_ip| client_ip.timeout_seconds);
    Some(seconds.and_then(|seconds| u32::try_from(seconds).ok()).filter(|s| *s > 0).unwrap_or(AFFINITY_SECONDS))
}

fn health_check_node_port(spec: &core::ServiceSpec) -> Option<u16> {
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}
