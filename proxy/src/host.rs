//! This host's kernel settings that Services need, and its addresses.
//!
//! Must not know: Services.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use crate::plan::element::Range;

/// Turns on what forwarding to pods needs; what cannot be turned on is said, with its consequence.
pub fn prepare(ipv6: bool) {
    let mut wanted = vec![("net/ipv4/ip_forward", "1")];
    if ipv6 {
        wanted.push(("net/ipv6/conf/all/forwarding", "1"));
    }
    for (name, value) in wanted {
        if let Err(error) = set(name, value) {
            tracing::warn!("cannot set {name} to {value}: {error}; pods will reach neither each other nor the world");
        }
    }
    bridge_filtering(ipv6);
}

/// Answers between pods on one bridge must pass conntrack, or they come from the pod instead of the Service.
fn bridge_filtering(ipv6: bool) {
    if !Path::new("/proc/sys/net/bridge").exists() {
        // loading it is all that can be tried; the setting below tells whether it worked
        let _ = Command::new("modprobe").arg("br_netfilter").status();
    }
    let mut wanted = vec!["net/bridge/bridge-nf-call-iptables"];
    if ipv6 {
        wanted.push("net/bridge/bridge-nf-call-ip6tables");
    }
    for name in wanted {
        if let Err(error) = set(name, "1") {
            tracing::warn!(
                "cannot set {name} to 1: {error}; pods will not reach pods on the same bridge through a Service \
                 (is the kernel module br_netfilter there?)"
            );
        }
    }
}

fn set(name: &str, value: &str) -> std::io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if std::fs::read_to_string(&path)?.trim() == value { Ok(()) } else { std::fs::write(path, value) }
}

/// Is there IPv6 at all?
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// This host's addresses within the ranges. Loopback addresses never: nothing from elsewhere can answer them.
pub fn addresses_within(ranges: &[Range]) -> Vec<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!("cannot list this host's addresses: {error}; node ports may not answer");
            return Vec::new();
        }
    };
    let storage = interfaces.filter_map(|interface| interface.address);
    let mut found: Vec<IpAddr> = storage
        .filter_map(|address| {
            let four = address.as_sockaddr_in().map(|four| IpAddr::from(four.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::from(six.ip())))
        })
        .filter(|address| !address.is_loopback() && ranges.iter().any(|range| range.contains(*address)))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
