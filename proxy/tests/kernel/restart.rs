//! A proxy that starts over a table it finds: adopts it, repairs it, replaces it; and changes under load.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pintle_nftables as nft;
use pintle_nftables::netlink::Socket;
use pintle_proxy::model::Model;
use serde_json::json;

use crate::network::{Network, inside, possible, servers, tcp};
use crate::rules::{Proxy, cluster_ip, context, with};

fn nft_command(network: &Network, arguments: &[&str]) {
    let status = Command::new("ip").args(["netns", "exec", &network.node(), "nft"]).args(arguments).status();
    assert!(status.expect("running nft").success());
}

#[test]
fn a_restart_changes_nothing_that_is_right() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("other", with(cluster_ip(), json!({"clusterIP": "10.96.0.60", "clusterIPs": ["10.96.0.60"]})));
    proxy.set_service("web", with(cluster_ip(), json!({"sessionAffinity": "ClientIP"})));
    proxy.set_endpoints("web", &[3]);
    proxy.set_endpoints("web", &[2, 3]);
    proxy.remove_service("other");
    let before = servers(&client, "10.96.0.50", 80, 1);
    let listing = proxy.listing();

    let mut again = Proxy::start(&network, std::mem::take(&mut proxy.model));
    let strip = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.contains("expires")).map(str::to_string).collect();
        lines.sort();
        lines
    };
    assert_eq!(strip(&again.listing()), strip(&listing));
    assert_eq!(servers(&client, "10.96.0.50", 80, 8), before, "the client's endpoint is still remembered");
    // one endpoint of one family more: its element, its membership, its hairpin, and the Service's count
    assert!(again.set_slice("web", "more", vec![crate::rules::endpoint("10.244.0.9", true)]) <= 10);
}

#[test]
fn what_others_broke_is_repaired() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    proxy.set_endpoints("web", &[2]);
    let generation = || inside(&network.node(), || nft::generation(&mut Socket::open().expect("a socket")));
    let before = generation().expect("a number");
    for syncer in &mut proxy.syncers {
        assert_eq!(syncer.reconcile().expect("a comparison"), 0);
        assert_eq!(syncer.resync().expect("a look"), 0);
    }
    assert_eq!(generation().expect("a number"), before, "looking changes nothing");
    nft_command(&network, &["flush", "map", "ip", "pintle-proxy", "endpoints"]);
    assert!(tcp(&client, "10.96.0.50", 80).is_err());
    assert_eq!(proxy.syncers[0].resync().expect("a repair"), 2);
    assert_eq!(proxy.syncers[0].resync().expect("a look"), 0);
    tcp(&client, "10.96.0.50", 80).expect("repaired");

    nft_command(&network, &["delete", "table", "ip", "pintle-proxy"]);
    proxy.set_endpoints("web", &[]);
    proxy.syncers[0].reconcile().expect("a repair");
    proxy.set_endpoints("web", &[2]);
    tcp(&client, "10.96.0.50", 80).expect("made anew");

    inside(&network.node(), pintle_proxy::backend::cleanup).expect("a cleanup");
    assert_eq!(proxy.listing(), "");
    let model = std::mem::take(&mut proxy.model);
    proxy.syncers[0].sync_all(&model, context(pintle_nftables::Family::V4)).expect("a sync");
    tcp(&client, "10.96.0.50", 80).expect("made anew");
}

#[test]
fn changes_under_load_lose_no_connection() {
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3, 4, 5]);
    let client = network.add_pod(9);
    let mut proxy = Proxy::start(&network, Model::default());
    proxy.set_service("web", cluster_ip());
    proxy.set_endpoints("web", &[2, 3]);
    let (stop, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // longer than one retransmission of a first packet, which is lost between two rules at worst
                    let answer = (0..2).find_map(|_| tcp(&client, "10.96.0.50", 80).ok());
                    assert!(answer.is_some(), "a connection was lost");
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..400 {
            let all: [&[u8]; 4] = [&[2, 3, 4, 5], &[2], &[5, 4], &[3, 4, 5]];
            proxy.set_endpoints("web", all[round % 4]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(connections.load(Ordering::Relaxed) > 50);
}
