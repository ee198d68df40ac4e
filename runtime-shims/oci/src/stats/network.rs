//! A pod's network counters, read in its namespace.
//!
//! Must not know: how the pod got its links.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use pintle_cri::v1;

use super::{now, some};
use crate::drivers::namespaces;

/// Counters of every link but the loopback. Blocks.
pub fn usage(namespace: &Path) -> Option<v1::NetworkUsage> {
    let text = namespaces::in_network(namespace, || {
        fs::read_to_string("/proc/thread-self/net/dev").context("reading the counters of links")
    });
    let text = text.map_err(|error| tracing::debug!("a pod's network cannot be read: {error:#}")).ok()?;
    let mut interfaces: Vec<v1::NetworkInterfaceUsage> =
        text.lines().skip(2).filter_map(line).filter(|link| link.name != "lo").collect();
    let default = interfaces.iter().position(|link| link.name == pintle_cni::INTERFACE);
    let default_interface = default.map(|index| interfaces.remove(index));
    Some(v1::NetworkUsage { timestamp: now(), default_interface, interfaces })
}

/// `  eth0: 1 2 3 …`: eight numbers of what came in, then eight of what went out.
fn line(line: &str) -> Option<v1::NetworkInterfaceUsage> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let number = |index: usize| numbers.get(index).copied().and_then(some);
    Some(v1::NetworkInterfaceUsage {
        name: name.trim().to_owned(),
        rx_bytes: number(0),
        rx_errors: number(2),
        tx_bytes: number(8),
        tx_errors: number(10),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_errors_are_read_both_ways() {
        let link = line("  eth0: 100 2 3 0 0 0 0 0 200 5 6 0 0 0 0 0").unwrap();
        assert_eq!(link.name, "eth0");
        let values = [link.rx_bytes, link.rx_errors, link.tx_bytes, link.tx_errors].map(|value| value.unwrap().value);
        assert_eq!(values, [100, 3, 200, 6]);
    }
}
