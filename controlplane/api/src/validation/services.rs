//! Services (`ValidateService`).
//!
//! Must not know: how addresses and ports are allocated.

use k8s_openapi::api::core::v1 as core;

use super::{invalid, invalid_number, meta, names, one_of, pod, required, shown, text};
use crate::field::{Error, Errors, Path};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

pub(crate) fn service(service: &core::Service, errors: &mut Errors) {
    let (Some(spec), path) = (&service.spec, Path::new("spec")) else { return };
    let type_ = text(&spec.type_);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && type_ != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    of_type(spec, type_, &path, errors);
    self::ports(ports, type_, &path.child("ports"), errors);
    let selector = spec.selector.iter().flatten();
    meta::labels(selector.map(|(k, v)| (k.as_str(), v.as_str())), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    if type_ != "ExternalName" {
        cluster_ips(spec, &path, errors);
    }
    let at = path.child("externalIPs");
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        invalid(names::ip(ip), ip, &at.index(i), errors);
    }
    one_of(type_, TYPES, &path.child("type"), errors);
    balancer_fields(spec, type_, &path, errors);
    traffic_policies(spec, type_, &path, errors);
}

fn is_headless(spec: &core::ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None") || first_ip(spec) == "None"
}

fn first_ip(spec: &core::ServiceSpec) -> &str {
    spec.cluster_ips.as_deref().and_then(|ips| ips.first()).map_or("", String::as_str)
}

fn of_type(spec: &core::ServiceSpec, type_: &str, path: &Path, errors: &mut Errors) {
    match type_ {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {type_} services");
            errors.push(Error::invalid(&path.child("clusterIPs").index(0), "None", detail));
        }
        "ExternalName" => {
            let set = [
                ("clusterIPs", spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty())),
                ("ipFamilies", spec.ip_families.as_ref().is_some_and(|families| !families.is_empty())),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
                errors.push(Error::forbidden(&path.child(field), "may not be set for ExternalName services"));
            }
            let name = text(&spec.external_name).trim_end_matches('.');
            required(name, &path.child("externalName"), errors);
            if !name.is_empty() {
                invalid(names::dns1123_subdomain(name), name, &path.child("externalName"), errors);
            }
        }
        _ => {}
    }
}

fn ports(ports: &[core::ServicePort], type_: &str, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = text(&port.name);
        if name.is_empty() && ports.len() > 1 {
            errors.push(Error::required(&at.child("name"), ""));
        } else if !name.is_empty() {
            invalid(names::dns1123_label(name), name, &at.child("name"), errors);
            if seen.contains(&name) {
                errors.push(Error::duplicate(&at.child("name"), name));
            }
            seen.push(name);
        }
        let number = i64::from(port.port);
        invalid_number(names::port_number(number), number, &at.child("port"), errors);
        one_of(text(&port.protocol), &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
        if let Some(target) = &port.target_port {
            pod::target_port(target, &at.child("targetPort"), errors);
        }
        if let Some(protocol) = &port.app_protocol {
            invalid(names::qualified_name(protocol), protocol, &at.child("appProtocol"), errors);
        }
        if type_ == "ClusterIP" && port.node_port.unwrap_or(0) != 0 {
            errors.push(Error::forbidden(&at.child("nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
    }
    duplicates(ports, path, errors);
}

fn duplicates(ports: &[core::ServicePort], path: &Path, errors: &mut Errors) {
    for (i, port) in ports.iter().enumerate() {
        let same = ports.iter().take(i).filter(|other| other.protocol == port.protocol);
        let node_port = port.node_port.unwrap_or(0);
        if node_port != 0 && same.clone().any(|other| other.node_port == port.node_port) {
            errors.push(Error::duplicate(&path.index(i).child("nodePort"), node_port));
        }
        if same.clone().any(|other| other.port == port.port) {
            let key = serde_json::json!({ "protocol": port.protocol, "port": port.port });
            errors.push(Error::duplicate(&path.index(i), key));
        }
    }
}

fn affinity(spec: &core::ServiceSpec, path: &Path, errors: &mut Errors) {
    let affinity = text(&spec.session_affinity);
    one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let at = path.child("sessionAffinityConfig");
    match (affinity, &spec.session_affinity_config) {
        ("None", Some(_)) => {
            errors.push(Error::forbidden(&at, "must not be set when session affinity is None"));
        }
        ("ClientIP", config) => {
            let seconds = config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
            let at = at.child("clientIP").child("timeoutSeconds");
            match seconds {
                None => errors.push(Error::required(&at, "")),
                Some(seconds) if !(1..=86400).contains(&seconds) => {
                    let detail = "must be greater than 0 and less than 86400";
                    errors.push(Error::invalid(&at, seconds, detail));
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

fn cluster_ips(spec: &core::ServiceSpec, path: &Path, errors: &mut Errors) {
    let at = path.child("clusterIPs");
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    match (text(&spec.cluster_ip), ips) {
        ("", []) => {}
        ("", _) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(Error::invalid(&at, shown(&ips), detail));
        }
        (_, []) => errors.push(Error::required(&at, "")),
        (ip, [first, ..]) if ip != first => {
            errors.push(Error::invalid(&at, shown(&ips), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    for (i, ip) in ips.iter().enumerate().filter(|(i, ip)| !(*i == 0 && *ip == "None")) {
        invalid(names::ip(ip), ip, &at.index(i), errors);
    }
    if ips.first().is_some_and(|ip| ip == "None") && ips.len() > 1 {
        errors.push(Error::invalid(&at, shown(&ips), "'None' must be the first and only value"));
    }
    if ips.len() > 2 {
        errors.push(Error::invalid(&at, shown(&ips), "may only hold up to 2 values"));
    }
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        one_of(family, &["IPv4", "IPv6"], &path.child("ipFamilies").index(i), errors);
    }
    if let Some(policy) = &spec.ip_family_policy {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(policy, &supported, &path.child("ipFamilyPolicy"), errors);
    }
}

fn balancer_fields(spec: &core::ServiceSpec, type_: &str, path: &Path, errors: &mut Errors) {
    if type_ == "LoadBalancer" {
        return;
    }
    // upstream spells the first one so
    let set = [
        ("LoadBalancerSourceRanges", spec.load_balancer_source_ranges.as_ref().is_some_and(|r| !r.is_empty())),
        ("allocateLoadBalancerNodePorts", spec.allocate_load_balancer_node_ports.is_some()),
        ("loadBalancerClass", spec.load_balancer_class.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        errors.push(Error::forbidden(&path.child(field), ONLY_BALANCERS));
    }
}

fn traffic_policies(spec: &core::ServiceSpec, type_: &str, path: &Path, errors: &mut Errors) {
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    let external = matches!(type_, "NodePort" | "LoadBalancer") || type_ == "ClusterIP" && has_external_ips;
    let (policy, at) = (text(&spec.external_traffic_policy), path.child("externalTrafficPolicy"));
    if external {
        one_of(policy, &["Cluster", "Local"], &at, errors);
    } else if !policy.is_empty() {
        errors.push(Error::invalid(&at, policy, "may only be set for externally-accessible services"));
    }
    if let Some(policy) = &spec.internal_traffic_policy {
        one_of(policy, &["Cluster", "Local"], &path.child("internalTrafficPolicy"), errors);
    }
}

/// A Service keeps its address for as long as its type needs one.
pub(crate) fn service_update(new: &core::Service, old: &core::Service, errors: &mut Errors) {
    let (Some(new), Some(old), path) = (&new.spec, &old.spec, Path::new("spec")) else { return };
    let needs_ip = |spec: &core::ServiceSpec| text(&spec.type_) != "ExternalName";
    if !needs_ip(new) || !needs_ip(old) || first_ip(old).is_empty() {
        return;
    }
    if first_ip(new) != first_ip(old) {
        let at = path.child("clusterIPs").index(0);
        errors.push(Error::invalid(&at, shown(&new.cluster_ips), "may not change once set"));
    }
}
