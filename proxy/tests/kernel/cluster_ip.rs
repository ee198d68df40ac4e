//! Cluster IPs: from pods and from the host, balanced, hairpinned, rejected without endpoints.

use std::io::ErrorKind;

use pintle_nftables::netlink::Socket;
use pintle_nftables::{Family, forwarding};
use pintle_proxy::model::Model;

use crate::network::{self, NODE, Network, OUTSIDE, possible, serve, servers, tcp, udp};
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
fn an_address_that_no_service_has_is_dropped_here() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2]);
    let client = network.add_pod(9);
    // what would leave the node finds somebody there
    network::ip(&format!("-n {} addr add 10.96.0.77/32 dev eth0", network.outside()));
    serve(&network.outside(), "world", 80);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    proxy.set_endpoints("web", &[2]);
    let from = [client.clone(), network.node()];
    for from in &from {
        assert_eq!(tcp(from, "10.96.0.77", 80).expect("not yet ours").server, "world");
    }
    proxy.set_service_cidrs(&["10.96.0.0/12", "fd96::/112"]);
    for from in &from {
        assert_eq!(tcp(from, "10.96.0.77", 80).expect_err("dropped").kind(), ErrorKind::TimedOut);
        tcp(from, "10.96.0.50", 80).expect("a Service");
        assert_eq!(tcp(from, "10.96.0.50", 81).expect_err("no such port").kind(), ErrorKind::ConnectionRefused);
    }
    // one that is this host's own, as cluster DNS is
    network::ip(&format!("-n {} addr add 10.96.0.10/32 dev lo", network.node()));
    serve(&network.node(), "dns", 53);
    for from in &from {
        assert_eq!(tcp(from, "10.96.0.10", 53).expect("an answer").server, "dns");
    }
    proxy.set_service_cidrs(&["10.96.0.0/26", "10.96.0.0/28"]);
    tcp(&client, "10.96.0.77", 80).expect("in no range any more");
}

#[test]
fn a_host_that_drops_what_it_forwards_lets_services_through() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2]);
    let client = network.add_pod(9);
    let iptables = |arguments: &str| {
        let arguments = format!("netns exec {} iptables {arguments}", network.node());
        std::process::Command::new("ip").args(arguments.split(' ')).output().expect("running ip")
    };
    if !iptables("-P FORWARD DROP").status.success() {
        eprintln!("skipped: needs iptables");
        return;
    }
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", crate::rules::with(cluster_ip(), serde_json::json!({"externalIPs": ["198.51.100.7"]})));
    proxy.set_endpoints("web", &[2]);
    assert!(tcp(&client, "10.96.0.50", 80).is_err() && tcp(&network.outside(), "198.51.100.7", 80).is_err());
    let open = |rules: &[String]| {
        network::inside(&network.node(), || {
            forwarding::open(&mut Socket::open().expect("a socket"), Family::V4, rules).expect("the rules")
        })
    };
    let rules = ["-m conntrack --ctstate DNAT".to_string()];
    assert_eq!((open(&rules), open(&rules)), (1, 0));
    tcp(&client, "10.96.0.50", 80).expect("from a pod");
    tcp(&network.outside(), "198.51.100.7", 80).expect("from outside");
    network::inside(&network.node(), || {
        assert_eq!(forwarding::close(&mut Socket::open().expect("a socket")).expect("removed").len(), 1);
    });
    assert!(!String::from_utf8_lossy(&iptables("-S").stdout).contains("pintle"));
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
