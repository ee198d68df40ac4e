//! UDP clients that keep their port, while endpoints go.

use std::net::UdpSocket;

use pintle_proxy::model::{Model, ServiceName};

use crate::network::{Network, inside, possible, udp_once};
use crate::rules::{Proxy, cluster_ip};

#[test]
fn a_udp_client_moves_when_its_endpoint_goes() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    proxy.set_endpoints("web", &[2, 3]);
    let socket = inside(&client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("binding");
        socket.connect("10.96.0.50:80").expect("connecting");
        socket
    });
    let before = udp_once(&socket).expect("an answer").server;
    assert_eq!(udp_once(&socket).expect("an answer").server, before);
    let other = if before == "pod2" { 3 } else { 2 };
    proxy.set_endpoints("web", &[other]);
    assert_eq!(udp_once(&socket).expect("an answer").server, before, "conntrack still knows the way");
    let name = ServiceName::new("default", "web");
    let ended = proxy.syncers[0].end_stale_flows(&proxy.model, [&name].into_iter()).expect("reconciling");
    assert_eq!(ended, 1);
    assert_eq!(udp_once(&socket).expect("an answer").server, format!("pod{other}"));
    let ended = proxy.syncers[0].end_stale_flows(&proxy.model, [&name].into_iter()).expect("reconciling");
    assert_eq!(ended, 0);
}
