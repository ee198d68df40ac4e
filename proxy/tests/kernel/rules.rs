//! A proxy in a network's node, fed with Services as the API has them.

use std::net::IpAddr;

use pintle_nftables::Family;
use pintle_proxy::backend::Table;
use pintle_proxy::model::{Model, Node, Service, ServiceName, Slice};
use pintle_proxy::parse_range;
use pintle_proxy::plan::service::Context;
use pintle_proxy::syncer::Syncer;
use serde_json::{Value, json};

use crate::network::{self, Network, inside};

pub struct Proxy {
    pub model: Model,
    pub syncers: Vec<Syncer>,
    node: String,
}

/// What the node is to the rules of one family.
pub fn context(family: Family) -> Context {
    let addresses: Vec<IpAddr> = [network::NODE, network::NODE6].iter().filter_map(|a| a.parse().ok()).collect();
    Context {
        family,
        node: Node { name: "node".into(), zone: String::new(), addresses: addresses.clone() },
        node_port_addresses: addresses,
        pods_known: true,
        masquerade_all: false,
        served_here: Vec::new(),
    }
}

impl Proxy {
    /// Rules in the network's node, as a proxy that starts makes them.
    pub fn start(network: &Network, model: Model) -> Self {
        let cidrs: Vec<_> = ["10.244.0.0/16", "fd10:244::/32"].iter().filter_map(|c| parse_range(c)).collect();
        let start = |family| {
            let table = inside(&network.node(), || Table::open(family, &cidrs)).expect("a table");
            let mut syncer = Syncer::start(table, context(family)).expect("reading the kernel");
            syncer.sync_all(&model, context(family)).expect("the first sync");
            syncer
        };
        let syncers = Family::BOTH.map(start).into();
        Self { model, syncers, node: network.node() }
    }

    /// As the API server would announce it. Answers with the number of changed elements.
    pub fn set_service(&mut self, name: &str, spec: Value) -> usize {
        let object =
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec, "status": spec["status"]});
        let service = Service::reduce(&serde_json::from_value(object).expect("a Service"));
        self.model.set_service(ServiceName::new("default", name), service);
        self.sync(name)
    }

    pub fn set_service_cidrs(&mut self, cidrs: &[&str]) {
        let ranges: Vec<_> = cidrs.iter().filter_map(|cidr| parse_range(cidr)).collect();
        self.syncers.iter_mut().for_each(|syncer| syncer.set_service_cidrs(&ranges).expect("the ranges"));
    }

    pub fn remove_service(&mut self, name: &str) -> usize {
        self.model.remove_service(&ServiceName::new("default", name));
        self.sync(name)
    }

    /// One slice per family with the pods of these numbers, port 8080 for the Service port without a name.
    pub fn set_endpoints(&mut self, name: &str, pods: &[u8]) -> usize {
        let four: Vec<Value> = pods.iter().map(|n| endpoint(&format!("10.244.0.{n}"), true)).collect();
        let six: Vec<Value> = pods.iter().map(|n| endpoint(&format!("fd10:244::{n}"), true)).collect();
        self.set_slice(name, "four", four) + self.set_slice(name, "six", six)
    }

    pub fn set_slice(&mut self, name: &str, slice: &str, endpoints: Vec<Value>) -> usize {
        let ports = json!([{"name": "", "port": 8080, "protocol": "TCP"}, {"name": "", "port": 8080, "protocol": "UDP"},
            {"name": "u", "port": 8080, "protocol": "UDP"}, {"name": "s", "port": 8080, "protocol": "SCTP"}]);
        let object = json!({"metadata": {}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints});
        let slice_object = Slice::reduce(&serde_json::from_value(object).expect("an EndpointSlice"));
        self.model.set_slice(&ServiceName::new("default", name), slice, slice_object);
        self.sync(name)
    }

    fn sync(&mut self, name: &str) -> usize {
        let name = ServiceName::new("default", name);
        self.syncers.iter_mut().map(|s| s.sync(&self.model, [&name].into_iter()).expect("a sync")).sum()
    }

    /// The rules as `nft` prints them.
    pub fn listing(&self) -> String {
        let output = std::process::Command::new("ip")
            .args(["netns", "exec", &self.node, "nft", "list", "ruleset"])
            .output()
            .expect("running nft");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// An endpoint on this node, or on another.
pub fn endpoint(address: &str, here: bool) -> Value {
    json!({"addresses": [address], "nodeName": if here { "node" } else { "other" }, "conditions": {"ready": true}})
}

/// A Service with TCP port 80 at both families' cluster IPs.
pub fn cluster_ip() -> Value {
    json!({"type": "ClusterIP", "clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50", "fd96::50"],
        "ports": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP", "name": "u"}]})
}

/// The Service with other fields in addition.
pub fn with(mut spec: Value, fields: Value) -> Value {
    if let (Some(spec), Value::Object(fields)) = (spec.as_object_mut(), fields) {
        spec.extend(fields);
    }
    spec
}
