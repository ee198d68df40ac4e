//! Services.
//!
//! Must not know: how addresses and ports are allocated.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::fill;
use crate::field::Errors;
use crate::kinds::Rules;
use crate::validation::services;

pub(super) struct Service;

/// Upstream's three hours.
const AFFINITY_SECONDS: i32 = 10800;

impl Rules for Service {
    type Object = core::Service;

    fn defaults(service: &mut core::Service) {
        let spec = service.spec.get_or_insert_default();
        fill_affinity(spec);
        fill::text(&mut spec.type_, "ClusterIP");
        fill::each(&mut spec.ports).for_each(fill_port);
        let type_ = spec.type_.clone().unwrap_or_default();
        let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
        let external = matches!(type_.as_str(), "NodePort" | "LoadBalancer");
        if external || type_ == "ClusterIP" && has_external_ips {
            fill::text(&mut spec.external_traffic_policy, "Cluster");
        }
        if external || type_ == "ClusterIP" {
            fill::value(&mut spec.internal_traffic_policy, "Cluster".to_owned());
        }
        if type_ == "LoadBalancer" {
            fill::value(&mut spec.allocate_load_balancer_node_ports, true);
            fill_ip_modes(service);
        }
    }

    fn prepare_create(service: &mut core::Service) {
        normalize_cluster_ips(service.spec.get_or_insert_default(), None);
    }

    fn prepare_update(new: &mut core::Service, old: &core::Service, _subresource: &str) {
        normalize_cluster_ips(new.spec.get_or_insert_default(), old.spec.as_ref());
        keep_allocated(new.spec.get_or_insert_default(), old.spec.as_ref());
    }

    fn validate(object: &core::Service, errors: &mut Errors) {
        services::service(object, errors);
    }

    fn validate_update(new: &core::Service, old: &core::Service, _subresource: &str, errors: &mut Errors) {
        services::service_update(new, old, errors);
    }
}

/// `clusterIP` and `clusterIPs[0]` are one value under two names; a client that knows only one of them changes both.
fn normalize_cluster_ips(spec: &mut core::ServiceSpec, old: Option<&core::ServiceSpec>) {
    let ip = spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
    let ips = spec.cluster_ips.get_or_insert_default();
    let ip_changed = old.is_some_and(|old| old.cluster_ip.clone().filter(|ip| !ip.is_empty()) != ip);
    let ips_changed = old.is_some_and(|old| old.cluster_ips.clone().unwrap_or_default() != *ips);
    match ip {
        Some(ip) if ips.is_empty() => ips.push(ip),
        Some(ip) if ip_changed && !ips_changed => *ips = vec![ip],
        None if ip_changed && !ips_changed => ips.clear(),
        None if ips_changed || old.is_none() => spec.cluster_ip = ips.first().cloned(),
        _ => {}
    }
    if spec.cluster_ips.as_ref().is_some_and(Vec::is_empty) {
        spec.cluster_ips = None;
    }
}

/// What was allocated stays where a client leaves it out, as `kubectl replace` does.
fn keep_allocated(new: &mut core::ServiceSpec, old: Option<&core::ServiceSpec>) {
    let Some(old) = old else { return };
    let has_ip = |spec: &core::ServiceSpec| spec.type_.as_deref() != Some("ExternalName");
    if has_ip(new) && has_ip(old) && new.cluster_ip.as_deref().unwrap_or_default().is_empty() {
        new.cluster_ip.clone_from(&old.cluster_ip);
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    let has_node_ports = |spec: &core::ServiceSpec| matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    if !has_node_ports(new) || !has_node_ports(old) {
        return;
    }
    let mut used: Vec<i32> = new.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    for port in fill::each(&mut new.ports).filter(|port| port.node_port.unwrap_or(0) == 0) {
        let same = |had: &&core::ServicePort| had.port == port.port && had.protocol == port.protocol;
        let had = old.ports.iter().flatten().find(same).and_then(|had| had.node_port);
        if let Some(had) = had.filter(|had| !used.contains(had)) {
            port.node_port = Some(had);
            used.push(had);
        }
    }
}

fn fill_affinity(spec: &mut core::ServiceSpec) {
    fill::text(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("None") {
        spec.session_affinity_config = None;
    } else if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config = spec.session_affinity_config.get_or_insert_default();
        fill::value(&mut config.client_ip.get_or_insert_default().timeout_seconds, AFFINITY_SECONDS);
    }
}

fn fill_port(port: &mut core::ServicePort) {
    fill::text(&mut port.protocol, "TCP");
    let unset = match &port.target_port {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::String(name)) => name.is_empty(),
        Some(IntOrString::Int(_)) => false,
    };
    if unset {
        port.target_port = Some(fill::int(port.port));
    }
}

fn fill_ip_modes(service: &mut core::Service) {
    let balancer = service.status.as_mut().and_then(|status| status.load_balancer.as_mut());
    for ingress in balancer.into_iter().flat_map(|balancer| fill::each(&mut balancer.ingress)) {
        if ingress.ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
            fill::value(&mut ingress.ip_mode, "VIP".to_owned());
        }
    }
}
