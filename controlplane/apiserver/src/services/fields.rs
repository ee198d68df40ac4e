//! Reading and filling the fields of a Service that the server allocates. Pure.
//!
//! Must not know: which numbers are free.

use serde_json::{Value, json};

/// The addresses a Service uses.
pub fn addresses(service: &Value) -> Vec<String> {
    let all = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut found: Vec<String> = all.map(str::to_owned).collect();
    if let Some(first) = service["spec"]["clusterIP"].as_str().filter(|a| !found.iter().any(|f| f == a)) {
        found.push(first.to_owned());
    }
    found.retain(|a| !a.is_empty() && a != "None");
    found
}

/// The node ports a Service uses, that of its health check included.
pub fn ports(service: &Value) -> Vec<u16> {
    let spec = &service["spec"];
    let own = spec["ports"].as_array().into_iter().flatten().map(|p| &p["nodePort"]);
    own.chain([&spec["healthCheckNodePort"]])
        .filter_map(|p| p.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0))
        .collect()
}

pub fn wants_node_ports(service: &Value) -> bool {
    match service["spec"]["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// An earlier port of the same number over another protocol asks for the same node port.
pub fn shared_port(service: &Value, index: usize, asked: u16) -> bool {
    let ports = service["spec"]["ports"].as_array();
    let Some(ports) = ports.filter(|_| asked != 0) else { return false };
    ports.iter().take(index).any(|p| p["nodePort"] == asked && p["protocol"] != ports[index]["protocol"])
}

/// The node port of an earlier port of the same number over another protocol.
pub fn twin_port(service: &Value, index: usize) -> Option<u16> {
    let ports = service["spec"]["ports"].as_array()?;
    let this = ports.get(index)?;
    let mut earlier = ports.iter().take(index);
    let twin = earlier.find(|p| p["port"] == this["port"] && p["protocol"] != this["protocol"])?;
    u16::try_from(twin["nodePort"].as_u64()?).ok().filter(|p| *p != 0)
}

/// One family, the cluster's, where the client named none.
pub fn fill_families(service: &mut Value) {
    let spec = &mut service["spec"];
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = "SingleStack".into();
    }
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
}

/// A client that sends a Service without what the server gave it means to keep that, as long as the type needs it.
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let (needed, had) = (new["spec"]["type"] != "ExternalName", old["spec"]["type"] != "ExternalName");
    if needed && had && new["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if !old["spec"][field].is_null() {
                new["spec"][field] = old["spec"][field].clone();
            }
        }
    }
    if wants_node_ports(new) && wants_node_ports(old) {
        keep_ports(new, old);
    }
}

/// A Service that changes to a type which has no use for some fields loses those that the client left as they were; one
/// that it changed is for validation to refuse. Source: `pkg/registry/core/service/strategy.go`.
pub fn drop_unneeded(new: &mut Value, old: &Value) {
    let ends = |needed: fn(&Value) -> bool, new: &Value| needed(old) && !needed(new);
    if ends(needs_cluster_ip, new) {
        drop_cluster_ip(new, old);
    }
    if ends(wants_node_ports, new) && node_ports(new) == node_ports(old) {
        new["spec"]["ports"].as_array_mut().into_iter().flatten().for_each(|port| remove(port, "nodePort"));
    }
    let unneeded = [
        ("healthCheckNodePort", ends(needs_health_check, new)),
        ("allocateLoadBalancerNodePorts", ends(is_load_balancer, new)),
        ("loadBalancerClass", ends(is_load_balancer, new)),
        ("externalTrafficPolicy", ends(is_reached_from_outside, new)),
    ];
    for (field, _) in unneeded.into_iter().filter(|(_, ended)| *ended) {
        drop_unchanged(new, old, field);
    }
    if !is_load_balancer(new) && new["status"]["loadBalancer"].is_object() {
        new["status"]["loadBalancer"] = json!({});
    }
}

fn drop_cluster_ip(new: &mut Value, old: &Value) {
    // a client that knows only the one address clears both with it
    if new["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() {
        remove(&mut new["spec"], "clusterIP");
    } else {
        drop_unchanged(new, old, "clusterIP");
    }
    ["clusterIPs", "ipFamilies", "ipFamilyPolicy"].into_iter().for_each(|field| drop_unchanged(new, old, field));
}

fn drop_unchanged(new: &mut Value, old: &Value, field: &str) {
    if new["spec"][field] == old["spec"][field] {
        remove(&mut new["spec"], field);
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

fn needs_cluster_ip(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName"
}

fn is_load_balancer(service: &Value) -> bool {
    service["spec"]["type"] == "LoadBalancer"
}

fn needs_health_check(service: &Value) -> bool {
    is_load_balancer(service) && service["spec"]["externalTrafficPolicy"] == "Local"
}

fn is_reached_from_outside(service: &Value) -> bool {
    let outside = matches!(service["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"));
    outside
        || (needs_cluster_ip(service) && service["spec"]["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty()))
}

fn node_ports(service: &Value) -> Vec<u64> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.map(|port| port["nodePort"].as_u64().unwrap_or(0)).collect()
}

fn keep_ports(new: &mut Value, old: &Value) {
    let used = ports(new);
    let olds = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_u64().unwrap_or(0) != 0 {
            continue;
        }
        let same = |was: &&Value| was["port"] == port["port"] && was["protocol"] == port["protocol"];
        let kept = olds.iter().find(same).and_then(|was| u16::try_from(was["nodePort"].as_u64()?).ok());
        if let Some(kept) = kept.filter(|p| *p != 0 && !used.contains(p)) {
            port["nodePort"] = kept.into();
        }
    }
    let health = old["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
    let wants = new["spec"]["externalTrafficPolicy"] == "Local" && new["spec"]["type"] == "LoadBalancer";
    if wants && health != 0 && new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
        new["spec"]["healthCheckNodePort"] = health.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_kept_unless_the_type_has_no_use_for_it() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        keep_allocated(&mut new, &old);
        assert_eq!((addresses(&new), ports(&new)), (vec!["10.96.0.9".to_owned()], vec![30080]));
        let mut name = json!({"spec": {"type": "ExternalName"}});
        keep_allocated(&mut name, &old);
        assert!(addresses(&name).is_empty());
    }

    #[test]
    fn a_type_without_addresses_loses_them_unless_they_were_changed() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        let mut new = old.clone();
        new["spec"]["type"] = "ExternalName".into();
        new["spec"]["clusterIP"] = "".into();
        drop_unneeded(&mut new, &old);
        let ports = json!([{"port": 80, "protocol": "TCP"}]);
        assert_eq!(new, json!({"spec": {"type": "ExternalName", "ports": ports}}));
        let mut changed = old.clone();
        changed["spec"]["type"] = "ExternalName".into();
        changed["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
        drop_unneeded(&mut changed, &old);
        assert_eq!(changed["spec"]["clusterIPs"], json!(["10.96.0.10"]));
    }

    #[test]
    fn a_port_over_two_protocols_has_one_node_port() {
        let service = json!({"spec": {"ports": [
            {"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "protocol": "TCP"}]}});
        assert_eq!(twin_port(&service, 1), Some(30053));
    }
}
