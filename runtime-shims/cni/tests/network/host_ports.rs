//! Host ports with real connections: from outside, from the host, from pods, from the pod itself.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::{Host, ip};
use crate::traffic::{Kind, ask, ask_again, has_sctp, inside, serve};

const NODE: &str = "192.168.78.1";
const NODE6: &str = "fd78::1";
const OUTSIDE: &str = "192.168.78.2";

/// A host with a machine outside of it.
fn host_and_outside() -> Option<(Host, PathBuf)> {
    let mut host = Host::new()?;
    let outside = host.pod("outside");
    let name = outside.file_name().unwrap().to_str().unwrap().to_owned();
    ip(&["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", &name]);
    for (at, four, six) in [(None, NODE, NODE6), (Some(name.as_str()), OUTSIDE, "fd78::2")] {
        let at = at.map_or(vec![], |name| vec!["-n", name]);
        let run = |args: &[&str]| drop(ip(&[&at, args].concat()));
        run(&["addr", "add", &format!("{four}/24"), "dev", "up0"]);
        run(&["addr", "add", &format!("{six}/64"), "dev", "up0", "nodad"]);
        run(&["link", "set", "up0", "up"]);
        run(&["link", "set", "lo", "up"]);
    }
    Some((host, outside))
}

fn mapping(host_port: u16, protocol: &str, host_ip: &str) -> Value {
    json!({ "hostPort": host_port, "containerPort": 8080, "protocol": protocol.to_lowercase(), "hostIP": host_ip })
}

/// A pod of both families with these ports; its address.
fn add(host: &Host, name: &str, netns: &Path, mappings: &[Value]) -> Value {
    let outcome = host.call("ADD", name, netns, more(mappings));
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn more(mappings: &[Value]) -> Value {
    json!({ "podCIDRs": ["10.99.0.0/24", "fd99::/64"], "runtimeConfig": { "portMappings": mappings } })
}

fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::Tcp, Kind::Udp];
    if has_sctp() {
        kinds.push(Kind::Sctp);
    }
    kinds
}

fn table(family: &str) -> String {
    let output =
        std::process::Command::new("nft").args(["list", "table", family, "pintle-hostports"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn everybody_reaches_a_host_port() {
    let Some((mut host, outside)) = host_and_outside() else { return };
    let (web, client) = (host.pod("web"), host.pod("client"));
    let mappings: Vec<Value> = kinds().iter().map(|kind| mapping(8081, kind.name(), "")).collect();
    add(&host, "web", &web, &mappings);
    add(&host, "client", &client, &[]);
    for kind in kinds() {
        serve(Some(&web), kind, 8080);
        let seen =
            |from, to| ask(from, kind, to, 8081).unwrap_or_else(|error| panic!("{kind:?} {to} {from:?}: {error}"));
        assert_eq!(seen(Some(&outside), NODE), OUTSIDE, "the client's address is kept");
        assert_eq!(seen(Some(&outside), NODE6), "fd78::2");
        assert_eq!(seen(Some(&client), NODE), "10.99.0.3");
        assert_eq!(seen(Some(&client), NODE6), "fd99::3");
        for address in [NODE, NODE6, "127.0.0.1", "10.99.0.1"] {
            seen(None, address);
        }
        for address in [NODE, NODE6] {
            seen(Some(&web), address);
        }
    }
    host.ok("CHECK", "web", &web, more(&mappings));
    host.ok("DEL", "web", &web, more(&mappings));
    assert!(!table("ip").contains("8081") && !table("ip6").contains("8081"), "{}", table("ip"));
    assert!(ask(Some(&outside), Kind::Tcp, NODE, 8081).is_err());
    host.ok("DEL", "client", &client, json!({}));
}

#[test]
fn a_host_port_on_one_address_is_on_that_one_only() {
    let Some((mut host, outside)) = host_and_outside() else { return };
    let (a, b) = (host.pod("a"), host.pod("b"));
    add(&host, "a", &a, &[mapping(8081, "TCP", NODE)]);
    add(&host, "b", &b, &[mapping(8081, "TCP", "127.0.0.1")]);
    serve(Some(&a), Kind::Tcp, 8080);
    assert_eq!(ask(Some(&outside), Kind::Tcp, NODE, 8081).unwrap(), OUTSIDE);
    assert!(ask(None, Kind::Tcp, "127.0.0.1", 8081).is_err(), "its pod serves nothing yet");
    serve(Some(&b), Kind::Tcp, 8080);
    ask(None, Kind::Tcp, "127.0.0.1", 8081).unwrap();
    assert!(ask(None, Kind::Tcp, "10.99.0.1", 8081).is_err(), "on no other address");
}

#[test]
fn what_listens_on_the_hosts_loopback_is_not_opened_to_pods() {
    let Some((mut host, _)) = host_and_outside() else { return };
    let (web, evil) = (host.pod("web"), host.pod("evil"));
    add(&host, "web", &web, &[mapping(8081, "TCP", "")]);
    add(&host, "evil", &evil, &[]);
    let secret = UdpSocket::bind("127.0.0.1:7777").unwrap();
    secret.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    inside(Some(&evil), || {
        let name = evil.file_name().unwrap().to_str().unwrap();
        ip(&["-n", name, "addr", "del", "127.0.0.1/8", "dev", "lo"]);
        ip(&["-n", name, "route", "add", "127.0.0.1/32", "via", "10.99.0.1", "dev", "eth0"]);
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        let socket = UdpSocket::bind("10.99.0.3:0").unwrap();
        socket.send_to(b"hello", "127.0.0.1:7777").unwrap();
    });
    assert!(secret.recv(&mut [0; 16]).is_err());
    secret.send_to(b"hello", "127.0.0.1:7777").unwrap();
    secret.recv(&mut [0; 16]).expect("the host itself reaches it");
}

#[test]
fn a_udp_client_that_goes_on_reaches_the_next_pod() {
    let Some((mut host, outside)) = host_and_outside() else { return };
    let (old, new) = (host.pod("old"), host.pod("new"));
    add(&host, "old", &old, &[mapping(8081, "UDP", "")]);
    serve(Some(&old), Kind::Udp, 8080);
    let socket = inside(Some(&outside), || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect((NODE, 8081)).unwrap();
    ask_again(&socket).unwrap();
    // The old pod is still there when the next one opens the port: it is the next one's now.
    add(&host, "new", &new, &[mapping(8081, "UDP", "")]);
    serve(Some(&new), Kind::Udp, 8080);
    host.ok("DEL", "old", &old, json!({}));
    assert_eq!(ask_again(&socket).unwrap(), OUTSIDE);
    host.ok("CHECK", "new", &new, more(&[mapping(8081, "UDP", "")]));
    host.ok("GC", "", Path::new(""), json!({ "cni.dev/valid-attachments": [] }));
    assert!(!table("ip").contains("8081"), "{}", table("ip"));
}

#[test]
fn a_host_that_drops_what_it_forwards_lets_pods_through() {
    let Some((mut host, outside)) = host_and_outside() else { return };
    for program in ["iptables", "ip6tables"] {
        let done = std::process::Command::new(program).args(["-P", "FORWARD", "DROP"]).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("skipped: needs {program}");
            return;
        }
    }
    let (web, client) = (host.pod("web"), host.pod("client"));
    add(&host, "web", &web, &[mapping(8081, "TCP", "")]);
    add(&host, "client", &client, &[]);
    serve(Some(&web), Kind::Tcp, 8080);
    for (from, to, port) in [(&outside, NODE, 8081), (&outside, NODE6, 8081), (&client, "10.99.0.2", 8080)] {
        ask(Some(from), Kind::Tcp, to, port).unwrap_or_else(|error| panic!("{to}: {error}"));
    }
    let rules =
        || String::from_utf8(std::process::Command::new("iptables").arg("-S").output().unwrap().stdout).unwrap();
    assert_eq!(rules().matches("pintle-forwarding").count(), 2, "{}", rules());
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(pintle_cni::cleanup(host.data.path())).unwrap();
    assert_eq!(rules().trim().lines().collect::<Vec<_>>(), ["-P INPUT ACCEPT", "-P FORWARD DROP", "-P OUTPUT ACCEPT"]);
}
