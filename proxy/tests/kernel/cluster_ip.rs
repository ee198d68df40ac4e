//! Cluster IPs: from pods and from the host, balanced, hairpinned, rejected without endpoints.

use std::io::ErrorKind;

use pintle_proxy::model::Model;

use crate::network::{NODE, Network, OUTSIDE, possible, serve, servers, tcp, udp};
use crate::rules::{Proxy, cluster_ip};

fn names(numbers: &[u8]) -> std::collections::BTreeSet<String> {
    numbers.iter().map(|number| format!("pod{number}")).collect()
}

#[test]
fn pods_and_the_host_reach_every_endpoint() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3, 4]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    proxy.set_endpoints("web", &[2, 3, 4]);
    eprintln!("{}", proxy.listing());
    for address in ["10.96.0.50", "fd96::50"] {
        for from in [&client, &network.node()] {
            assert_eq!(servers(from, address, 80, 40), names(&[2, 3, 4]), "{address} from {from}");
            udp(from, address, 80).expect("an answer over UDP");
        }
    }
    // pods see pods, and the node as the node
    assert_eq!(tcp(&client, "10.96.0.50", 80).expect("an answer").client, "10.244.0.9");
    assert_eq!(tcp(&network.node(), "10.96.0.50", 80).expect("an answer").client, "10.244.0.1");
}

#[test]
fn a_pod_reaches_itself() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2]);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    proxy.set_endpoints("web", &[2]);
    let answer = tcp(&network.pod(2), "10.96.0.50", 80).expect("an answer");
    assert_eq!((answer.server.as_str(), answer.client.as_str()), ("pod2", "10.244.0.1"));
    tcp(&network.pod(2), "fd96::50", 80).expect("an answer");
}

#[test]
fn without_endpoints_it_is_refused_and_endpoints_change_that() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    for from in [&client, &network.node()] {
        for address in ["10.96.0.50", "fd96::50"] {
            let refused = tcp(from, address, 80).expect_err("no endpoints");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{address} from {from}");
            assert_eq!(tcp(from, address, 81).expect_err("no such port").kind(), ErrorKind::ConnectionRefused);
        }
    }
    proxy.set_endpoints("web", &[2]);
    assert_eq!(servers(&client, "10.96.0.50", 80, 5), names(&[2]));
    proxy.set_endpoints("web", &[3]);
    assert_eq!(servers(&client, "10.96.0.50", 80, 5), names(&[3]));
    proxy.set_endpoints("web", &[]);
    assert_eq!(tcp(&client, "10.96.0.50", 80).expect_err("none again").kind(), ErrorKind::ConnectionRefused);
    proxy.remove_service("web");
    assert!(tcp(&client, "10.96.0.50", 80).is_err());
}

#[test]
fn what_pods_send_to_the_world_comes_from_the_node() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2]);
    let client = network.add_pod(9);
    serve(&network.outside(), "world", 8080);
    let _proxy = Proxy::start(&network, Model::default());
    assert_eq!(tcp(&client, OUTSIDE, 8080).expect("an answer").client, NODE);
    assert_eq!(udp(&client, OUTSIDE, 8080).expect("an answer").client, NODE);
    // pods among themselves keep their addresses
    assert_eq!(tcp(&client, "10.244.0.2", 8080).expect("an answer").client, "10.244.0.9");
}
