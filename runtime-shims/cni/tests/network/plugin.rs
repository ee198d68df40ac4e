//! The plugin: pods reach each other and the host, and nothing is left.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Host, echoes, ip, reaches};
use crate::traffic::inside;

#[test]
fn pods_reach_each_other_and_the_host_and_leave_nothing_behind() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (host.pod("a"), host.pod("b"));
    let (first, second) = (host.add("a", &a), host.add("b", &b));
    assert_eq!((first.as_str(), second.as_str()), ("10.99.0.2", "10.99.0.3"));
    assert!(reaches(Some(&a), &second), "pod to pod");
    assert!(reaches(Some(&b), "10.99.0.1"), "pod to host");
    assert!(reaches(None, &first), "host to pod");
    assert!(reaches(Some(&a), "127.0.0.1"), "its own loopback");
    host.ok("CHECK", "a", &a, json!({}));
    for _twice in 0..2 {
        host.ok("DEL", "a", &a, json!({}));
    }
    assert_ne!(host.call("CHECK", "a", &a, json!({})).code, 0);
    assert!(reaches(Some(&b), "10.99.0.1"), "the other pod is left alone");
    host.ok("DEL", "b", Path::new(""), json!({}));
    assert_eq!((host.links(), host.leases("pods")), (0, 0));
}

#[test]
fn an_add_that_fails_leaves_nothing() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("taken");
    let name = pod.file_name().unwrap().to_str().unwrap();
    ip(&["-n", name, "link", "add", "eth0", "type", "bridge"]);
    let outcome = host.call("ADD", "c", &pod, json!({}));
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.contains(r#""code":100"#), "{}", outcome.stdout);
    assert_eq!((host.links(), host.leases("pods")), (0, 0));
}

#[test]
fn collection_removes_what_the_runtime_no_longer_has() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (host.pod("a"), host.pod("b"));
    host.add("a", &a);
    let kept = host.add("b", &b);
    let valid = json!([{ "containerID": "b", "ifname": "eth0" }]);
    host.ok("GC", "", Path::new(""), json!({ "cni.dev/valid-attachments": valid }));
    assert_eq!((host.links(), host.leases("pods")), (1, 1));
    assert!(reaches(None, &kept));
    host.ok("STATUS", "", Path::new(""), json!({}));
}

#[test]
fn as_loopback_it_brings_the_loopback_device_up() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("lo");
    assert!(!echoes(Some(&pod), "127.0.0.1"));
    let outcome = host.call("ADD", "c", &pod, json!({ "type": "loopback" }));
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    assert!(reaches(Some(&pod), "127.0.0.1"));
    host.ok("DEL", "c", &pod, json!({ "type": "loopback" }));
}

#[test]
fn cleanup_leaves_no_link_and_no_lease() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("a");
    host.add("a", &pod);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let removed = tokio.block_on(pintle_cni::cleanup(host.data.path())).unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(host.links(), 0);
    assert!(ip(&["-o", "link", "show", "type", "bridge"]).is_empty());
    assert!(tokio.block_on(pintle_cni::cleanup(host.data.path())).unwrap().is_empty(), "nothing is left to remove");
}

#[test]
fn pods_of_both_families_use_both_at_once() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (host.pod("a"), host.pod("b"));
    let both = json!({ "podCIDRs": ["fd99::/64", "10.99.0.0/24"] });
    for (name, netns) in [("a", &a), ("b", &b)] {
        let outcome = host.call("ADD", name, netns, both.clone());
        assert_eq!(outcome.code, 0, "{}", outcome.stdout);
        let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert!(result["ips"][0]["address"].as_str().unwrap().starts_with("fd99::"), "the first range is the primary");
        assert_eq!(result["routes"][0]["dst"], "::/0");
    }
    for address in ["fd99::3", "10.99.0.3", "fd99::1"] {
        assert!(reaches(Some(&a), address), "{address}");
    }
    assert!(reaches(None, "fd99::2"));
    host.ok("CHECK", "a", &a, both.clone());
    host.ok("DEL", "a", &a, both.clone());
    host.ok("DEL", "b", &b, both);
    assert_eq!((host.links(), host.leases("pods")), (0, 0));
}

#[test]
fn bandwidth_is_bounded_in_both_directions() {
    let Some(mut host) = Host::new() else { return };
    let pod = host.pod("a");
    let rate = 16_000_000;
    let bandwidth = json!({ "ingressRate": rate, "ingressBurst": 800_000, "egressRate": rate, "egressBurst": 800_000 });
    let outcome = host.call("ADD", "a", &pod, json!({ "runtimeConfig": { "bandwidth": bandwidth } }));
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
    let bytes = 1_000_000;
    // It cannot be faster than what the burst leaves, at that rate; with some grace for how the kernel counts.
    let at_least = Duration::from_secs_f64(f64::from(bytes - 200_000) / f64::from(rate / 8));
    let (to_pod, to_host) = (drain(Some(&pod), 9000), drain(None, 9001));
    let began = Instant::now();
    push(None, "10.99.0.2:9000", bytes);
    to_pod.join().unwrap();
    let received = began.elapsed();
    push(Some(&pod), "10.99.0.1:9001", bytes);
    to_host.join().unwrap();
    let sent = began.elapsed() - received;
    assert!(received >= at_least && sent >= at_least, "{received:?} {sent:?} {at_least:?}");
    host.ok("DEL", "a", &pod, json!({}));
}

/// Reads all of one connection.
fn drain(netns: Option<&Path>, port: u16) -> JoinHandle<()> {
    let listener = inside(netns, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    std::thread::spawn(move || {
        std::io::copy(&mut listener.accept().unwrap().0, &mut std::io::sink()).unwrap();
    })
}

fn push(netns: Option<&Path>, to: &str, bytes: u32) {
    inside(netns, || TcpStream::connect(to).unwrap().write_all(&vec![0; bytes as usize]).unwrap());
}
