//! The rows of Services, endpoints, ingresses and network policies.
//!
//! Must not know: packets.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{self, NONE, int, list, or, str_of};
use super::{Printer, columns};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    let (columns, cells): (_, fn(&Value, Timestamp) -> Vec<Value>) = match kind {
        "Service" => (columns::SERVICE, service),
        "Endpoints" => (columns::ENDPOINTS, endpoints),
        "EndpointSlice" => (columns::ENDPOINT_SLICE, endpoint_slice),
        "Ingress" => (columns::INGRESS, ingress),
        "IngressClass" => (columns::INGRESS_CLASS, ingress_class),
        "NetworkPolicy" => (columns::NETWORK_POLICY, network_policy),
        "ServiceCIDR" => (columns::SERVICE_CIDR, service_cidr),
        "IPAddress" => (columns::IP_ADDRESS, ip_address),
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn service(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let ports: Vec<String> = list(&spec["ports"]).iter().map(service_port).collect();
    vec![
        text::name(item),
        str_of(&spec["type"]).into(),
        spec["clusterIPs"][0].as_str().unwrap_or(NONE).into(),
        external_ip(item).into(),
        if ports.is_empty() { NONE.into() } else { ports.join(",").into() },
        text::age(item, now),
        text::labels(&spec["selector"]).into(),
    ]
}

fn service_port(port: &Value) -> String {
    let (number, protocol) = (int(&port["port"]), str_of(&port["protocol"]));
    match int(&port["nodePort"]) {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external_ip(item: &Value) -> String {
    let spec = &item["spec"];
    let own = text::joined(&spec["externalIPs"], ",");
    match str_of(&spec["type"]) {
        "ClusterIP" | "NodePort" if own.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => own,
        "LoadBalancer" => {
            let all = [balancer_addresses(&item["status"]), own];
            let shown: Vec<&str> = all.iter().map(String::as_str).filter(|ips| !ips.is_empty()).collect();
            if shown.is_empty() { "<pending>".to_owned() } else { shown.join(",") }
        }
        "ExternalName" => str_of(&spec["externalName"]).to_owned(),
        _ => text::UNKNOWN.to_owned(),
    }
}

fn balancer_addresses(status: &Value) -> String {
    let ingress = list(&status["loadBalancer"]["ingress"]).iter();
    let mut addresses: Vec<&str> =
        ingress.map(|i| or(&i["ip"], str_of(&i["hostname"]))).filter(|a| !a.is_empty()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

fn endpoints(item: &Value, now: Timestamp) -> Vec<Value> {
    let subsets = list(&item["subsets"]);
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || list(&subset["addresses"]).iter().map(|address| str_of(&address["ip"]));
        match list(&subset["ports"]) {
            [] => all.extend(ips().map(str::to_owned)),
            ports => all.extend(ports.iter().flat_map(|port| ips().map(|ip| host_port(ip, int(&port["port"]))))),
        }
    }
    let shown = if subsets.is_empty() { NONE.to_owned() } else { text::with_more(&all, all.len(), 3) };
    vec![text::name(item), shown.into(), text::age(item, now)]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(item: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, name) => name.unwrap_or("*").to_owned(),
    };
    let ports: Vec<String> = list(&item["ports"]).iter().map(port).collect();
    let addresses = list(&item["endpoints"]).iter().flat_map(|endpoint| list(&endpoint["addresses"]));
    let addresses: Vec<String> = addresses.map(|address| str_of(address).to_owned()).collect();
    vec![
        text::name(item),
        str_of(&item["addressType"]).into(),
        unset_if_empty(&ports).into(),
        unset_if_empty(&addresses).into(),
        text::age(item, now),
    ]
}

fn unset_if_empty(all: &[String]) -> String {
    if all.is_empty() { text::UNSET.to_owned() } else { text::with_more(all, all.len(), 3) }
}

fn ingress(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let tls = !list(&spec["tls"]).is_empty();
    vec![
        text::name(item),
        spec["ingressClassName"].as_str().unwrap_or(NONE).into(),
        hosts(list(&spec["rules"])).into(),
        balancer_addresses(&item["status"]).into(),
        if tls { "80, 443" } else { "80" }.into(),
        text::age(item, now),
    ]
}

fn hosts(rules: &[Value]) -> String {
    let named: Vec<String> =
        rules.iter().map(|rule| str_of(&rule["host"]).to_owned()).filter(|host| !host.is_empty()).collect();
    match named.len() {
        0 => "*".to_owned(),
        // upstream counts the rules that are left, named or not
        3.. => text::with_more(&named, rules.len(), 3),
        _ => named.join(","),
    }
}

fn ingress_class(item: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &item["spec"];
    let is_default = text::annotation(item, "ingressclass.kubernetes.io/is-default-class") == "true";
    let name = format!("{}{}", str_of(&item["metadata"]["name"]), if is_default { " (default)" } else { "" });
    let parameters = match &spec["parameters"] {
        Value::Null => NONE.to_owned(),
        p => {
            let group = p["apiGroup"].as_str().map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", str_of(&p["kind"]), str_of(&p["name"]))
        }
    };
    vec![name.into(), str_of(&spec["controller"]).into(), parameters.into(), text::age(item, now)]
}

fn network_policy(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), text::selector(&item["spec"]["podSelector"]).into(), text::age(item, now)]
}

fn service_cidr(item: &Value, now: Timestamp) -> Vec<Value> {
    vec![text::name(item), text::joined(&item["spec"]["cidrs"], ",").into(), text::age(item, now)]
}

fn ip_address(item: &Value, _now: Timestamp) -> Vec<Value> {
    let parent = match &item["spec"]["parentRef"] {
        Value::Null => NONE.to_owned(),
        parent => {
            let [resource, group, namespace, name] =
                ["resource", "group", "namespace", "name"].map(|field| str_of(&parent[field]));
            let dot = if group.is_empty() { "" } else { "." };
            let slash = if namespace.is_empty() { "" } else { "/" };
            format!("{resource}{dot}{group}{slash}{namespace}/{name}")
        }
    };
    vec![text::name(item), parent.into()]
}
