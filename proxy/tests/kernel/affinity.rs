//! sessionAffinity ClientIP: one client, one endpoint, as long as it is one.

use pintle_proxy::model::Model;
use serde_json::json;

use crate::network::{NODE, Network, possible, servers};
use crate::rules::{Proxy, cluster_ip, with};

#[test]
fn a_client_stays_with_its_endpoint() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3, 4]);
    let clients: Vec<String> = (9..13).map(|number| network.add_pod(number)).collect();
    let mut proxy = Proxy::start(&network, Model::default());
    let fields = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 2}}});
    proxy.set_service("web", with(cluster_ip(), fields));
    proxy.set_endpoints("web", &[2, 3, 4]);
    for address in ["10.96.0.50", "fd96::50"] {
        for client in clients.iter().chain(&[network.node()]) {
            assert_eq!(servers(client, address, 80, 12).len(), 1, "{address} from {client}");
        }
    }
    assert_eq!(servers(&network.outside(), NODE, 30080, 12).len(), 1);
    // its endpoint goes: the client moves, and stays again
    let before = servers(&clients[0], "10.96.0.50", 80, 1);
    let rest: Vec<u8> = [2u8, 3, 4].into_iter().filter(|n| !before.contains(&format!("pod{n}"))).collect();
    proxy.set_endpoints("web", &rest);
    let after = servers(&clients[0], "10.96.0.50", 80, 12);
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    // after the timeout it is free again
    let mut seen = after.clone();
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(2200));
        seen.extend(servers(&clients[0], "10.96.0.50", 80, 1));
        if seen.len() > 1 {
            return;
        }
    }
    panic!("still {seen:?}");
}
