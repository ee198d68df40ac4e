//! A pod's network counters, read in its namespace.
//!
//! Must not know: how the pod got its links.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use pintle_cri::v1;

use super::{now, some};
use crate::drivers::namespaces;

/// What went through a link.
#[derive(Debug, Default, PartialEq)]
pub struct Link {
    pub name: String,
    pub received: Counts,
    pub sent: Counts,
}

/// One way.
#[derive(Debug, Default, PartialEq)]
pub struct Counts {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// Counters of every link but the loopback. Blocks.
pub fn links(namespace: &Path) -> Option<Vec<Link>> {
    let text = namespaces::in_network(namespace, || {
        fs::read_to_string("/proc/thread-self/net/dev").context("reading the counters of links")
    });
    let text = text.map_err(|error| tracing::debug!("a pod's network cannot be read: {error:#}")).ok()?;
    Some(text.lines().skip(2).filter_map(line).filter(|link| link.name != "lo").collect())
}

/// The same as CRI's statistics have it. Blocks.
pub fn usage(namespace: &Path) -> Option<v1::NetworkUsage> {
    let mut interfaces: Vec<v1::NetworkInterfaceUsage> = links(namespace)?.into_iter().map(shown).collect();
    let default = interfaces.iter().position(|link| link.name == pintle_cni::INTERFACE);
    let default_interface = default.map(|index| interfaces.remove(index));
    Some(v1::NetworkUsage { timestamp: now(), default_interface, interfaces })
}

fn shown(link: Link) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: link.name,
        rx_bytes: some(link.received.bytes),
        rx_errors: some(link.received.errors),
        tx_bytes: some(link.sent.bytes),
        tx_errors: some(link.sent.errors),
    }
}

/// `  eth0: 1 2 3 …`: eight numbers of what came in, then eight of what went out.
fn line(line: &str) -> Option<Link> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let counts = |from: usize| match numbers.get(from..from + 4) {
        Some(&[bytes, packets, errors, dropped]) => Counts { bytes, packets, errors, dropped },
        _ => Counts::default(),
    };
    Some(Link { name: name.trim().to_owned(), received: counts(0), sent: counts(8) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_counted_both_ways() {
        let link = line("  eth0: 100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0").unwrap();
        assert_eq!(link.name, "eth0");
        assert_eq!(link.received, Counts { bytes: 100, packets: 2, errors: 3, dropped: 4 });
        assert_eq!(link.sent, Counts { bytes: 200, packets: 5, errors: 6, dropped: 7 });
    }
}
