//! Services against quotas: how many, how many with a load balancer, how many node ports.
//!
//! Must not know: other kinds.

use k8s_openapi::api::core::v1::Service;

use super::{number, one};
use crate::resources::Amounts;

pub fn concerns(name: &str) -> bool {
    matches!(name, "count/services" | "services" | "services.nodeports" | "services.loadbalancers")
}

pub fn usage(service: &Service) -> Amounts {
    let spec = service.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or_default();
    let ports = || spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let allocates = spec.and_then(|spec| spec.allocate_load_balancer_node_ports).unwrap_or(true);
    let node_ports = match kind {
        "LoadBalancer" if !allocates => ports().filter(|port| port.node_port.unwrap_or(0) != 0).count(),
        "NodePort" | "LoadBalancer" => ports().count(),
        _ => 0,
    };
    Amounts::from([
        ("count/services".to_owned(), one()),
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(usize::from(kind == "LoadBalancer"))),
    ])
}
