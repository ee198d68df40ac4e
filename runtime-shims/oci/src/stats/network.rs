//! A pod's network counters, read in its namespace.
//!
//! Must not know: how the pod got its links.

use std::path::Path;

use anyhow::Context as _;
use pintle_cri::metrics::{self, Link};
use pintle_cri::v1;

use super::{now, some};
use crate::drivers::namespaces;

/// Counters of every link but the loopback. Blocks.
pub fn links(namespace: &Path) -> Option<Vec<Link>> {
    let links = namespaces::in_network(namespace, || metrics::links().context("reading the counters of links"));
    links.map_err(|error| tracing::debug!("a pod's network cannot be read: {error:#}")).ok()
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
