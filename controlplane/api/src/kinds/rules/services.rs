//! Services.
//!
//! Must not know: how addresses and ports are allocated.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::fill;
use crate::kinds::Rules;

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
