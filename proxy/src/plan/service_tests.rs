//! Services → elements, as text.

use std::net::IpAddr;

use serde_json::{Value as Json, json};

use super::element::{Elements, Key, Lane, Target, Value};
use super::service::{Context, assign_slots, elements};
use crate::model::{Node, PortEndpoint, Service, Slice};
use pintle_nftables::Family;

fn context() -> Context {
    let address: IpAddr = IpAddr::from([192, 168, 77, 1]);
    Context {
        family: Family::V4,
        node: Node { name: "node".into(), zone: "a".into(), addresses: vec![address] },
        node_port_addresses: vec![address],
        pods_known: true,
        masquerade_all: false,
        served_here: Vec::new(),
    }
}

fn endpoint(address: &str, node: &str) -> Json {
    json!({"addresses": [address], "nodeName": node})
}

fn plan(context: &Context, fields: Json, endpoints: &[Json], previous: &[(Key, Value)]) -> Elements {
    let mut spec = json!({"clusterIP": "10.96.0.50", "ports": [{"port": 80}]});
    if let (Some(spec), Json::Object(fields)) = (spec.as_object_mut(), fields.clone()) {
        spec.extend(fields);
    }
    let object = json!({"metadata": {}, "spec": spec, "status": fields["status"]});
    let service = Service::reduce(&serde_json::from_value(object).expect("a Service"));
    let object = json!({"metadata": {}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
        "endpoints": endpoints});
    let slice = Slice::reduce(&serde_json::from_value(object).expect("an EndpointSlice"));
    let port = &service.ports[0];
    let found = PortEndpoint::of([&slice].into_iter(), &port.name, port.protocol, context.family);
    elements(context, 7, &service, port, &found, previous)
}

fn text(elements: &Elements) -> Vec<String> {
    let value = |value: &Value| match value {
        Value::None => String::new(),
        Value::Target(target) => format!(" {target}"),
        Value::Handling(h) => format!(
            " group {} of {} affinity {} {:?} masquerade {:?}",
            h.group, h.count, h.affinity, h.action, h.masquerade
        ),
    };
    let key = |key: &Key| match key {
        Key::Frontend(Lane::Cluster, frontend) => format!("service {frontend}"),
        Key::Frontend(Lane::Local, frontend) => format!("external-local {frontend}"),
        Key::Endpoint { group, index } => format!("endpoint {group}.{index}"),
        Key::Member { group, target } => format!("member {group} {target}"),
        Key::Hairpin(address) => format!("hairpin {address}"),
        Key::ClusterIp(address) => format!("cluster-ip {address}"),
        Key::AllowedSource(frontend, range) => format!("allowed {frontend} {}-{}", range.first, range.last),
    };
    elements.iter().map(|(k, v)| format!("{}{}", key(k), value(v))).collect()
}

#[test]
fn a_cluster_ip_with_a_local_and_a_remote_endpoint() {
    let found = plan(&context(), json!({}), &[endpoint("10.244.0.2", "node"), endpoint("10.244.1.2", "other")], &[]);
    assert_eq!(
        text(&found),
        [
            "service 10.96.0.50.tcp.80 group 14 of 2 affinity 0 Accept masquerade UnlessPod",
            "endpoint 14.0 10.244.0.2:8080",
            "endpoint 14.1 10.244.1.2:8080",
            "hairpin 10.244.0.2",
            "cluster-ip 10.96.0.50",
        ]
    );
}

#[test]
fn without_endpoints_connections_are_rejected() {
    assert_eq!(
        text(&plan(&context(), json!({}), &[], &[])),
        ["service 10.96.0.50.tcp.80 group 14 of 0 affinity 0 Reject masquerade UnlessPod", "cluster-ip 10.96.0.50"]
    );
}

#[test]
fn a_balancer_with_ranges_affinity_and_policy_local() {
    let fields = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
        "ports": [{"port": 80, "nodePort": 30080}], "loadBalancerSourceRanges": ["192.168.0.0/16", "192.168.77.0/24"],
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"ip": "203.0.113.6", "ipMode": "Proxy"}]}}});
    let found = plan(&context(), fields, &[endpoint("10.244.1.2", "other")], &[]);
    assert_eq!(
        text(&found),
        [
            "service 10.96.0.50.tcp.80 group 14 of 1 affinity 10800 Accept masquerade UnlessPod",
            "service 192.168.77.1.tcp.30080 group 14 of 1 affinity 10800 Accept masquerade IfHost",
            "service 203.0.113.5.tcp.80 group 14 of 1 affinity 10800 Firewall masquerade IfHost",
            "external-local 192.168.77.1.tcp.30080 group 15 of 0 affinity 10800 Drop masquerade IfHost",
            "external-local 203.0.113.5.tcp.80 group 15 of 0 affinity 10800 Drop masquerade IfHost",
            "endpoint 14.0 10.244.1.2:8080",
            "member 14 10.244.1.2:8080",
            "cluster-ip 10.96.0.50",
            "allowed 203.0.113.5.tcp.80 192.168.0.0-192.168.255.255",
            "allowed 203.0.113.5.tcp.80 203.0.113.5-203.0.113.5",
        ]
    );
}

#[test]
fn what_is_served_here_or_by_another_proxy_or_headless_has_no_elements() {
    let mut here = context();
    here.served_here = vec![IpAddr::from([10, 96, 0, 50])];
    let endpoints = [endpoint("10.244.0.2", "node")];
    assert!(plan(&here, json!({}), &endpoints, &[]).is_empty());
    assert!(plan(&context(), json!({"clusterIP": "None"}), &endpoints, &[]).is_empty());
    assert!(plan(&context(), json!({"type": "ExternalName", "externalName": "x"}), &endpoints, &[]).is_empty());
}

#[test]
fn zone_hints_choose_endpoints_when_all_have_them() {
    let hinted = |address: &str, zone: &str| json!({"addresses": [address], "nodeName": "other", "hints": {"forZones": [{"name": zone}]}});
    let count = |endpoints: &[Json]| {
        let found = plan(&context(), json!({}), endpoints, &[]);
        found.iter().filter(|(key, _)| matches!(key, Key::Endpoint { .. })).count()
    };
    assert_eq!(count(&[hinted("10.244.1.2", "a"), hinted("10.244.1.3", "b")]), 1);
    assert_eq!(count(&[hinted("10.244.1.2", "b"), hinted("10.244.1.3", "b")]), 2);
    assert_eq!(count(&[hinted("10.244.1.2", "a"), endpoint("10.244.1.3", "other")]), 2);
}

#[test]
fn endpoints_keep_their_index() {
    let target = |last| Target { address: IpAddr::from([10, 244, 0, last]), port: 80 };
    let slots = |previous: &[u8], wanted: &[u8]| {
        let targets = |list: &[u8]| list.iter().map(|last| target(*last)).collect::<Vec<_>>();
        let found = assign_slots(&targets(previous), &targets(wanted));
        found.iter().map(|t| t.address.to_string().rsplit('.').next().map(str::to_string)).collect::<Option<Vec<_>>>()
    };
    let expect = |list: &[u8]| Some(list.iter().map(u8::to_string).collect::<Vec<_>>());
    assert_eq!(slots(&[1, 2, 3, 4], &[1, 3, 4]), expect(&[1, 4, 3]));
    assert_eq!(slots(&[1, 4, 3], &[1, 2, 3, 4]), expect(&[1, 4, 3, 2]));
    assert_eq!(slots(&[], &[1, 2]), expect(&[1, 2]));
    assert_eq!(slots(&[1, 2], &[]), expect(&[]));
}
