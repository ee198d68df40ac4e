//! Host ports: a table of nf_tables per family, made when the first pod wants one, with an element per port.
//!
//! The kernel's table is the only record: what a pod has is found there by its address.
//! Must not know: CNI's documents, links.

mod plan;
mod rules;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use pintle_nftables::netlink::Socket;
use pintle_nftables::{self as nft, Batch, Element, ElementData, Family, RawElement, conntrack};

pub use plan::{HostPort, host_ports};

use crate::error::{Code, Context, Result};
use crate::lock;
use rules::{ADDRESS_PORTS, HAIRPIN, PORTS, TABLE};

/// Names the constant part of the table: another version's table is replaced, and its elements are kept.
const LAYOUT: &str = "pintle-hostports, layout 1";

/// Opens the ports. A port that leads elsewhere leads here now: its former pod is on its way out.
pub fn open(data_dir: &Path, ports: &[HostPort]) -> Result<()> {
    let _lock = lock::take(data_dir)?;
    let done = || {
        let mut socket = Socket::open()?;
        for family in Family::BOTH {
            let mine: Vec<&HostPort> = ports.iter().filter(|port| plan::family(port.pod) == family).collect();
            if !mine.is_empty() {
                open_family(&mut socket, family, &mine)?;
                end_stale_flows(&mut socket, family, &mine)?;
            }
        }
        anyhow::Ok(())
    };
    done().map_err(told).context(Code::Network, || "cannot open the host ports".into())
}

/// Closes every port that leads to one of these pods' addresses.
pub fn close(data_dir: &Path, pods: &[IpAddr]) -> Result<()> {
    close_where(data_dir, |pod| pods.contains(&pod))
}

/// Closes every port that leads to an address that no pod has.
pub fn collect(data_dir: &Path, held: &[IpAddr]) -> Result<()> {
    close_where(data_dir, |pod| !held.contains(&pod))
}

/// Are these ports open and lead to their pod?
pub fn check(ports: &[HostPort]) -> Result<bool> {
    let done = || {
        let mut socket = Socket::open()?;
        for port in ports {
            let wanted = port.element();
            let found = nft::elements(&mut socket, plan::family(port.pod), TABLE, port.map())?;
            if !found.iter().any(|it| element(it) == wanted) {
                return Ok(false);
            }
        }
        anyhow::Ok(true)
    };
    done().map_err(told).context(Code::Network, || "cannot read the host ports".into())
}

/// Removes the tables; says which there were.
pub fn cleanup() -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    let mut socket = Socket::open()?;
    for (family, name) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        if nft::table_comment(&mut socket, family, TABLE)?.is_some() {
            let mut batch = Batch::new(family, TABLE);
            batch.delete_table();
            batch.commit(&mut socket)?;
            removed.push(format!("nftables table {name} {TABLE}"));
        }
    }
    Ok(removed)
}

/// The whole chain, since what surrounds it prints one message.
fn told(error: anyhow::Error) -> String {
    format!("{error:#}")
}

fn open_family(socket: &mut Socket, family: Family, ports: &[&HostPort]) -> anyhow::Result<()> {
    let there = nft::table_comment(socket, family, TABLE)?.as_deref() == Some(LAYOUT);
    let mut batch = Batch::new(family, TABLE);
    if !there {
        create(&mut batch, family);
    }
    let pods: BTreeSet<IpAddr> = ports.iter().map(|port| port.pod).collect();
    let pins: Vec<Element> = pods.into_iter().map(plan::hairpin).collect();
    for set in &rules::sets(family) {
        let new: Vec<Element> = match set.name {
            HAIRPIN => pins.clone(),
            map => ports.iter().filter(|port| port.map() == map).map(|port| port.element()).collect(),
        };
        let replaced = |raw: &&RawElement| new.iter().any(|it| it.key == raw.key);
        let old = nft::elements(socket, family, TABLE, set.name)?;
        match there {
            true => batch.delete_elements(set, old.iter().filter(replaced).map(element)),
            false => batch.add_elements(set, old.iter().filter(|raw| !replaced(raw)).map(element)),
        }
        batch.add_elements(set, new);
    }
    batch.commit(socket)
}

fn create(batch: &mut Batch, family: Family) {
    // Deleting needs it there, and adding what is there does nothing.
    batch.add_table("");
    batch.delete_table();
    batch.add_table(LAYOUT);
    rules::sets(family).iter().for_each(|set| batch.add_set(set));
    let chains = rules::chains(family);
    chains.iter().for_each(|chain| batch.add_chain(chain));
    chains.iter().for_each(|chain| batch.add_rules(chain));
}

fn close_where(data_dir: &Path, goes: impl Fn(IpAddr) -> bool) -> Result<()> {
    let done = || {
        let mut socket = Socket::open()?;
        for family in Family::BOTH {
            // Most pods have none: then there is nothing to lock for.
            let mut all = nft::elements(&mut socket, family, TABLE, PORTS)?;
            all.extend(nft::elements(&mut socket, family, TABLE, ADDRESS_PORTS)?);
            if all.iter().filter_map(pod_of).any(&goes) {
                let _lock = lock::take(data_dir).map_err(anyhow::Error::new)?;
                close_family(&mut socket, family, &goes)?;
            }
        }
        anyhow::Ok(())
    };
    done().map_err(told).context(Code::Network, || "cannot close the host ports".into())
}

fn close_family(socket: &mut Socket, family: Family, goes: &impl Fn(IpAddr) -> bool) -> anyhow::Result<()> {
    let mut batch = Batch::new(family, TABLE);
    for set in &rules::sets(family) {
        let found = nft::elements(socket, family, TABLE, set.name)?;
        let pod = |raw: &RawElement| if set.name == HAIRPIN { address(&raw.key, family) } else { pod_of(raw) };
        batch.delete_elements(set, found.iter().filter(|raw| pod(raw).is_some_and(goes)).map(element));
    }
    batch.commit(socket)
}

/// Clients of UDP keep their port: their flow would go on to where it led before.
fn end_stale_flows(socket: &mut Socket, family: Family, ports: &[&HostPort]) -> anyhow::Result<()> {
    let udp: Vec<_> = ports.iter().filter(|port| port.protocol == plan::UDP).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let own: Vec<IpAddr> = getifaddrs()?.filter_map(|link| ip_of(&link.address?)).collect();
    for entry in conntrack::list(socket, family)?.into_iter().filter(|entry| entry.protocol == plan::UDP) {
        let to = entry.destination;
        let ours = |port: &&&&HostPort| {
            to.port() == port.port && (to.ip() == port.host || port.host.is_unspecified() && own.contains(&to.ip()))
        };
        if udp.iter().find(ours).is_some_and(|port| entry.answers.ip() != port.pod) {
            conntrack::delete(socket, family, &entry)?;
        }
    }
    Ok(())
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

/// An element that was read, as one to be written.
fn element(raw: &RawElement) -> Element {
    Element { key: raw.key.clone(), data: raw.value.clone().map_or(ElementData::None, ElementData::Value) }
}

/// Where a port leads.
fn pod_of(raw: &RawElement) -> Option<IpAddr> {
    // An address and a port of 4 padded bytes.
    let value = raw.value.as_deref()?;
    address(value, if value.len() > 8 { Family::V6 } else { Family::V4 })
}

fn address(bytes: &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => bytes.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        Family::V6 => bytes.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    }
}
