//! Network policies, ingresses and endpoint slices.
//!
//! Must not know: packets.

use k8s_openapi::api::{discovery::v1 as discovery, networking::v1 as networking};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{immutable, invalid, invalid_number, names, one_of, pod, required, selectors, shown, text};
use crate::field::{Error, Errors, Path};

pub(crate) fn network_policy(policy: &networking::NetworkPolicy, errors: &mut Errors) {
    let (Some(spec), path) = (&policy.spec, Path::new("spec")) else { return };
    if let Some(selector) = &spec.pod_selector {
        selectors::label_selector(selector, &path.child("podSelector"), errors);
    }
    for (i, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = path.child("ingress").index(i);
        ports(&rule.ports, &at, errors);
        peers(&rule.from, &at.child("from"), errors);
    }
    for (i, rule) in spec.egress.iter().flatten().enumerate() {
        let at = path.child("egress").index(i);
        ports(&rule.ports, &at, errors);
        peers(&rule.to, &at.child("to"), errors);
    }
    let at = path.child("policyTypes");
    for (i, type_) in spec.policy_types.iter().flatten().enumerate() {
        one_of(type_, &["Ingress", "Egress"], &at.index(i), errors);
    }
}

fn ports(ports: &Option<Vec<networking::NetworkPolicyPort>>, path: &Path, errors: &mut Errors) {
    for (i, port) in ports.iter().flatten().enumerate() {
        let at = path.child("ports").index(i);
        if let Some(protocol) = &port.protocol {
            one_of(protocol, &["TCP", "UDP", "SCTP"], &at.child("protocol"), errors);
        }
        if let Some(number) = &port.port {
            pod::target_port(number, &at.child("port"), errors);
        }
        let Some(end) = port.end_port else { continue };
        let at = at.child("endPort");
        match &port.port {
            None => {
                errors.push(Error::invalid(&at, end, "may not be specified when `port` is not specified"));
            }
            Some(IntOrString::String(_)) => {
                errors.push(Error::invalid(&at, end, "may not be specified when `port` is non-numeric"));
            }
            Some(IntOrString::Int(start)) => {
                if end < *start {
                    errors.push(Error::invalid(&at, *start, "must be greater than or equal to `port`"));
                }
                invalid_number(names::port_number(i64::from(end)), i64::from(end), &at, errors);
            }
        }
    }
}

fn peers(peers: &Option<Vec<networking::NetworkPolicyPeer>>, path: &Path, errors: &mut Errors) {
    for (i, peer) in peers.iter().flatten().enumerate() {
        let at = path.index(i);
        if let Some(selector) = &peer.pod_selector {
            selectors::label_selector(selector, &at.child("podSelector"), errors);
        }
        if let Some(selector) = &peer.namespace_selector {
            selectors::label_selector(selector, &at.child("namespaceSelector"), errors);
        }
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (&peer.ip_block, selects) {
            (None, false) => errors.push(Error::required(&at, "must specify a peer")),
            (Some(_), true) => {
                errors.push(Error::forbidden(&at, "may not specify both ipBlock and another peer"));
            }
            (Some(block), false) => ip_block(block, &at.child("ipBlock"), errors),
            (None, true) => {}
        }
    }
}

fn ip_block(block: &networking::IPBlock, path: &Path, errors: &mut Errors) {
    required(&block.cidr, &path.child("cidr"), errors);
    if !block.cidr.is_empty() {
        invalid(names::cidr(&block.cidr), &block.cidr, &path.child("cidr"), errors);
    }
    for (i, except) in block.except.iter().flatten().enumerate() {
        let at = path.child("except").index(i);
        invalid(names::cidr(except), except, &at, errors);
        if let (Some(outer), Some(inner)) = (parsed(&block.cidr), parsed(except))
            && !strictly_within(inner, outer)
        {
            errors.push(Error::invalid(&at, except.as_str(), "must be a strict subset of `cidr`"));
        }
    }
}

/// `(address as a number, length of the mask, whether it is IPv6)`.
fn parsed(cidr: &str) -> Option<(u128, u32, bool)> {
    let (address, bits) = cidr.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    Some(match address.parse().ok()? {
        std::net::IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, bits, false),
        std::net::IpAddr::V6(ip) => (ip.to_bits(), bits, true),
    })
}

fn strictly_within(inner: (u128, u32, bool), outer: (u128, u32, bool)) -> bool {
    let mask = |bits: u32| u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
    inner.2 == outer.2 && inner.1 > outer.1 && inner.0 & mask(outer.1) == outer.0 & mask(outer.1)
}

pub(crate) fn ingress(ingress: &networking::Ingress, errors: &mut Errors) {
    let (Some(spec), path) = (&ingress.spec, Path::new("spec")) else { return };
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(Error::invalid(&path, shown(&spec.rules), detail));
    }
    if let Some(default) = &spec.default_backend {
        backend(default, &path.child("defaultBackend"), errors);
    }
    for (i, rule) in rules.iter().enumerate() {
        ingress_rule(rule, &path.child("rules").index(i), errors);
    }
    let class = text(&spec.ingress_class_name);
    if !class.is_empty() {
        invalid(names::dns1123_subdomain(class), class, &path.child("ingressClassName"), errors);
    }
}

fn ingress_rule(rule: &networking::IngressRule, path: &Path, errors: &mut Errors) {
    let (host, at) = (text(&rule.host), path.child("host"));
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(Error::invalid(&at, host, "must be a DNS name, not an IP address"));
    }
    if host.contains('*') {
        invalid(names::wildcard_subdomain(host), host, &at, errors);
    } else if !host.is_empty() {
        invalid(names::dns1123_subdomain(host), host, &at, errors);
    }
    let Some(http) = &rule.http else { return };
    let at = path.child("http").child("paths");
    if http.paths.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    for (i, it) in http.paths.iter().enumerate() {
        ingress_path(it, &at.index(i), errors);
    }
}

fn ingress_path(it: &networking::HTTPIngressPath, path: &Path, errors: &mut Errors) {
    let (way, at) = (text(&it.path), path.child("path"));
    match it.path_type.as_str() {
        "" => {
            errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if !way.starts_with('/') {
                errors.push(Error::invalid(&at, way, "must be an absolute path"));
            }
            let sequences = ["//", "/./", "/../", "%2f", "%2F"];
            for sequence in sequences.into_iter().filter(|sequence| way.contains(sequence)) {
                errors.push(Error::invalid(&at, way, format!("must not contain '{sequence}'")));
            }
            for suffix in ["/..", "/."].into_iter().filter(|suffix| way.ends_with(suffix)) {
                errors.push(Error::invalid(&at, way, format!("cannot end with '{suffix}'")));
            }
        }
        "ImplementationSpecific" if !way.is_empty() && !way.starts_with('/') => {
            errors.push(Error::invalid(&at, way, "must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Error::not_supported(&path.child("pathType"), other, &supported));
        }
    }
    backend(&it.backend, &path.child("backend"), errors);
}

fn backend(backend: &networking::IngressBackend, path: &Path, errors: &mut Errors) {
    let service = match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(path, "", "cannot set both resource and service backends"));
            return;
        }
        (Some(_), None) => return,
        (None, None) => {
            errors.push(Error::invalid(path, "", "resource or service backend is required"));
            return;
        }
        (None, Some(service)) => service,
    };
    let at = path.child("service");
    required(&service.name, &at.child("name"), errors);
    if !service.name.is_empty() {
        invalid(names::dns1123_label(&service.name), &service.name, &at.child("name"), errors);
    }
    let port = service.port.clone().unwrap_or_default();
    match (text(&port.name), port.number.unwrap_or(0)) {
        ("", 0) => errors.push(Error::required(path, "port name or number is required")),
        ("", number) => {
            let at = at.child("port").child("number");
            invalid_number(names::port_number(i64::from(number)), i64::from(number), &at, errors);
        }
        (name, 0) => invalid(names::port_name(name), name, &at.child("port").child("name"), errors),
        _ => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
    }
}

const MAX_ENDPOINTS: usize = 1000;

pub(crate) fn endpoint_slice(slice: &discovery::EndpointSlice, errors: &mut Errors) {
    let types = ["FQDN", "IPv4", "IPv6"];
    one_of(&slice.address_type, &types, &Path::new("addressType"), errors);
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    let path = Path::new("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(Error::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let at = path.index(i).child("addresses");
        if endpoint.addresses.is_empty() {
            errors.push(Error::required(&at, "must contain at least 1 address"));
        }
        for (j, address) in endpoint.addresses.iter().enumerate() {
            let problems = match slice.address_type.as_str() {
                "FQDN" => names::dns1123_subdomain(address),
                _ => names::ip(address),
            };
            invalid(problems, address, &at.index(j), errors);
        }
    }
    for (i, port) in slice.ports.iter().flatten().enumerate() {
        let at = Path::new("ports").index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            invalid(names::dns1123_label(name), name, &at.child("name"), errors);
        }
        one_of(text(&port.protocol), &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
    }
}

pub(crate) fn endpoint_slice_update(
    new: &discovery::EndpointSlice,
    old: &discovery::EndpointSlice,
    errors: &mut Errors,
) {
    immutable(&new.address_type, &old.address_type, &Path::new("addressType"), errors);
}
