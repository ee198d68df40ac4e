//! Removing every trace of the pod network: for a reset, when no pod runs any more.
//!
//! Must not know: who resets.

use std::fs;
use std::path::Path;

use pintle_nftables::forwarding;
use pintle_nftables::netlink::Socket;

use crate::attach::outer_name;
use crate::conf::BRIDGE;
use crate::host_ports;
use crate::leases::Leases;
use crate::links::Links;

/// Removes the pods' links, the bridge, the host ports' tables, the rules that accept
/// forwarded packets, and the leases below `data_dir`; what it removed.
///
/// # Errors
/// The first thing that is there and cannot be removed.
pub async fn cleanup(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    let links = Links::open()?;
    let mut names = held(data_dir)?;
    names.push(BRIDGE.to_owned());
    for name in names {
        if links.find(&name).await?.is_some() {
            links.remove(&name).await?;
            removed.push(format!("link {name}"));
        }
    }
    removed.extend(host_ports::cleanup()?);
    removed.extend(forwarding::close(&mut Socket::open()?)?);
    if data_dir.exists() {
        fs::remove_dir_all(data_dir)?;
        removed.push(data_dir.display().to_string());
    }
    Ok(removed)
}

/// The host's links of every lease there is.
fn held(data_dir: &Path) -> crate::error::Result<Vec<String>> {
    let networks = fs::read_dir(data_dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut names = Vec::new();
    for network in networks.filter_map(|entry| entry.file_name().into_string().ok()) {
        let leases = Leases::open(data_dir, &network)?.attachments()?;
        names.extend(leases.iter().map(outer_name));
    }
    Ok(names)
}
