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
    fn a_port_over_two_protocols_has_one_node_port() {
        let service = json!({"spec": {"ports": [
            {"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "protocol": "TCP"}]}});
        assert_eq!(twin_port(&service, 1), Some(30053));
    }
}
