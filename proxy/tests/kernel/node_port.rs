//! Node ports, external IPs and load balancers' addresses: from outside, from the host and from pods.

use std::io::ErrorKind;

use pintle_proxy::model::Model;
use serde_json::json;

use crate::network::{NODE, NODE6, Network, OUTSIDE, possible, tcp, udp};
use crate::rules::{Proxy, cluster_ip, endpoint, with};

fn node_port() -> serde_json::Value {
    with(
        cluster_ip(),
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"},
            {"port": 80, "nodePort": 30080, "protocol": "UDP", "name": "u"}]}),
    )
}

#[test]
fn everybody_reaches_a_node_port() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", node_port());
    proxy.set_endpoints("web", &[2, 3]);
    for address in [NODE, NODE6] {
        for from in [&network.outside(), &network.node(), &client] {
            tcp(from, address, 30080).unwrap_or_else(|error| panic!("{address} from {from}: {error}"));
            udp(from, address, 30080).unwrap_or_else(|error| panic!("UDP {address} from {from}: {error}"));
        }
    }
    // the endpoint may be elsewhere, so the answer has to come back through this node
    assert_eq!(tcp(&network.outside(), NODE, 30080).expect("an answer").client, "10.244.0.1");
}

#[test]
fn policy_local_keeps_the_clients_address_and_uses_local_endpoints_only() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", with(node_port(), json!({"externalTrafficPolicy": "Local"})));
    proxy.set_slice("web", "s", vec![endpoint("10.244.0.2", true), endpoint("10.244.0.3", false)]);
    for _ in 0..8 {
        let answer = tcp(&network.outside(), NODE, 30080).expect("an answer");
        assert_eq!((answer.server.as_str(), answer.client.as_str()), ("pod2", OUTSIDE));
    }
    // the host and pods are subject to no external policy
    for from in [&network.node(), &client] {
        let servers = crate::network::servers(from, NODE, 30080, 30);
        assert_eq!(servers.len(), 2, "from {from}");
    }
    proxy.set_slice("web", "s", vec![endpoint("10.244.0.3", false)]);
    let dropped = tcp(&network.outside(), NODE, 30080).expect_err("no local endpoint");
    assert_eq!(dropped.kind(), ErrorKind::TimedOut);
    tcp(&network.node(), NODE, 30080).expect("the host reaches the other node's endpoint");
    proxy.set_slice("web", "s", vec![]);
    let refused = tcp(&network.outside(), NODE, 30080).expect_err("no endpoint");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn external_and_load_balancer_addresses() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    let fields = json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.7"],
        "loadBalancerSourceRanges": ["192.168.77.0/24", "192.168.77.2/32"],
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}});
    proxy.set_service("web", with(cluster_ip(), fields));
    proxy.set_endpoints("web", &[2]);
    for address in ["198.51.100.7", "203.0.113.5"] {
        tcp(&network.outside(), address, 80).expect(address);
        tcp(&network.node(), address, 80).expect(address);
    }
    tcp(&client, "198.51.100.7", 80).expect("source ranges are not for external IPs");
    // the pod's address is in no source range
    assert_eq!(tcp(&client, "203.0.113.5", 80).expect_err("fenced").kind(), ErrorKind::TimedOut);
}
