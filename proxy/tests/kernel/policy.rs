//! internalTrafficPolicy Local, and endpoints that terminate.

use std::io::ErrorKind;

use pintle_proxy::model::Model;
use serde_json::json;

use crate::network::{Network, possible, servers, tcp};
use crate::rules::{Proxy, cluster_ip, endpoint, with};

#[test]
fn internal_policy_local_uses_local_endpoints_and_drops_without() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", with(cluster_ip(), json!({"internalTrafficPolicy": "Local"})));
    proxy.set_slice("web", "s", vec![endpoint("10.244.0.2", true), endpoint("10.244.0.3", false)]);
    assert_eq!(servers(&client, "10.96.0.50", 80, 12), ["pod2".to_string()].into());
    proxy.set_slice("web", "s", vec![endpoint("10.244.0.3", false)]);
    assert_eq!(tcp(&client, "10.96.0.50", 80).expect_err("dropped").kind(), ErrorKind::TimedOut);
}

#[test]
fn terminating_endpoints_serve_when_no_other_is_ready() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    let state = |address: &str, ready, terminating| {
        json!({"addresses": [address], "nodeName": "node",
            "conditions": {"ready": ready, "serving": true, "terminating": terminating}})
    };
    proxy.set_slice("web", "s", vec![state("10.244.0.2", true, false), state("10.244.0.3", false, true)]);
    assert_eq!(servers(&client, "10.96.0.50", 80, 12), ["pod2".to_string()].into());
    proxy.set_slice("web", "s", vec![state("10.244.0.3", false, true)]);
    assert_eq!(servers(&client, "10.96.0.50", 80, 4), ["pod3".to_string()].into());
    proxy.set_slice("web", "s", vec![state("10.244.0.3", false, false)]);
    assert_eq!(tcp(&client, "10.96.0.50", 80).expect_err("not ready").kind(), ErrorKind::ConnectionRefused);
}
