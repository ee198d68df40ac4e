//! What the plugin's verbs do: addresses, links, routes, host ports of one attachment, and their removal.
//!
//! Must not know: CNI's environment and documents.

use std::fs::File;
use std::net::IpAddr;

use pintle_nftables::netlink::Socket;
use pintle_nftables::{Family, forwarding};
use sha2::{Digest, Sha256};

use crate::error::{CniError, Code, Context, Result};
use crate::host_ports;
use crate::leases::Leases;
use crate::links::{Link, Links, Pair, mac_of, parse_mac, shown_mac};
use crate::namespace;
use crate::range::{Range, whole};
use crate::request::{Attachment, Conf, Target};
use crate::result::{AddResult, Address, Interface, Route};
use crate::shaping::Limit;
use crate::sysctl;

/// The links of an attachment.
struct Attached {
    bridge: Link,
    outer: Interface,
    inner: Link,
}

pub fn add(conf: &Conf, target: &Target) -> Result<AddResult> {
    let ranges = conf.ranges()?;
    let wanted = conf.wanted()?;
    let netns = target.netns()?;
    let namespace = namespace::open(netns)?;
    let leases = Leases::open(&conf.data_dir, &conf.name)?;
    let addresses = leases.take(&ranges, &wanted, &target.attachment)?;
    let done = || {
        let ports = host_ports::host_ports(&conf.runtime_config.port_mappings, &addresses)?;
        let attached = attach(conf, &target.attachment, &namespace, &ranges, &addresses)?;
        if !ports.is_empty() {
            sysctl::route_loopback(&conf.bridge)?;
            host_ports::open(&conf.data_dir, &ports)?;
        }
        let sandbox = netns.display().to_string();
        Ok(document(conf, attached, sandbox, &ranges, &addresses))
    };
    done().inspect_err(|_| {
        // What cannot be undone is found by the DEL that follows.
        let _ = del(conf, &target.attachment);
    })
}

/// Everything on one thread: netlink sockets stay in the namespace they were opened in, so one is opened, then the thread
/// moves to the pod's namespace and opens the other.
fn attach(
    conf: &Conf,
    attachment: &Attachment,
    namespace: &File,
    ranges: &[Range],
    addresses: &[IpAddr],
) -> Result<Attached> {
    let outer = outer_name(attachment);
    let (mac, outer_mac) = (mac(conf, addresses)?, outer_mac(attachment));
    let pair = Pair { outer: &outer, inner: &attachment.ifname, mac, outer_mac, mtu: conf.mtu };
    let bandwidth = conf.runtime_config.bandwidth.as_ref();
    namespace::run(None, || async {
        let host = Links::open()?;
        let bridge = bridge(&host, conf, ranges).await?;
        let events = Links::watch()?;
        let index = make_pair(&host, &pair, namespace, &bridge).await?;
        if let Some(limit) = bandwidth.and_then(Limit::ingress) {
            host.shape(index, limit).await?;
        }
        namespace::enter(namespace)?;
        let pod = Links::open()?;
        let inner = set_up(&pod, pair.inner, ranges, addresses).await?;
        // At the pod's own end: its containers cannot change it without the capability NET_ADMIN.
        if let Some(limit) = bandwidth.and_then(Limit::egress) {
            pod.shape(inner.index, limit).await?;
        }
        events.until_up(&host, index).await;
        let outer = Interface { name: outer.clone(), mac: shown_mac(&pair.outer_mac), ..Interface::default() };
        Ok(Attached { bridge, outer, inner })
    })
}

fn mac(conf: &Conf, addresses: &[IpAddr]) -> Result<Vec<u8>> {
    match &conf.runtime_config.mac {
        Some(text) => parse_mac(text)
            .ok_or_else(|| CniError::new(Code::InvalidConfig, format!("{text:?} is no hardware address"))),
        None => Ok(addresses.first().map(|address| mac_of(*address)).unwrap_or_default()),
    }
}

async fn bridge(host: &Links, conf: &Conf, ranges: &[Range]) -> Result<Link> {
    let ipv6 = ranges.iter().any(|range| range.is_ipv6);
    sysctl::forward(ipv6)?;
    let first = ranges.first().map(|range| range.gateway());
    let gateway = first.ok_or_else(|| CniError::new(Code::InvalidConfig, "there is no pod CIDR"))?;
    let bridge = host.bridge(&conf.bridge, gateway, conf.mtu).await?;
    sysctl::bridge(&conf.bridge, ipv6)?;
    if !bridge.up {
        host.up(&bridge).await?;
        open_forwarding(conf, ranges)?;
    }
    for range in ranges {
        host.address(&bridge, range.gateway(), range.length).await?;
    }
    Ok(bridge)
}

/// Once, with the bridge: what becomes of the host's rules later is the business of what runs all the time.
fn open_forwarding(conf: &Conf, ranges: &[Range]) -> Result<()> {
    let rules = [format!("-i {}", conf.bridge), format!("-o {}", conf.bridge)];
    let done = || {
        let mut socket = Socket::open()?;
        for family in Family::BOTH.into_iter().filter(|it| ranges.iter().any(|of| of.is_ipv6 == (*it == Family::V6))) {
            forwarding::open(&mut socket, family, &rules)?;
        }
        anyhow::Ok(())
    };
    done()
        .map_err(|error| format!("{error:#}"))
        .context(Code::Network, || "the host would drop the pods' packets".into())
}

/// The outer name follows from the attachment: one that is there is of a call that was cut short.
async fn make_pair(host: &Links, pair: &Pair<'_>, namespace: &File, bridge: &Link) -> Result<u32> {
    if let Some(index) = host.pair(pair, namespace, bridge).await? {
        return Ok(index);
    }
    host.remove(pair.outer).await?;
    let taken = || CniError::new(Code::Network, format!("the container has a link {} already", pair.inner));
    host.pair(pair, namespace, bridge).await?.ok_or_else(taken)
}

/// The pod's side.
async fn set_up(pod: &Links, name: &str, ranges: &[Range], addresses: &[IpAddr]) -> Result<Link> {
    let lo = pod.must_find("lo").await?;
    if !lo.up {
        pod.up(&lo).await?;
    }
    let inner = pod.must_find(name).await?;
    if ranges.iter().any(|range| range.is_ipv6) {
        sysctl::pod(name)?;
    }
    pod.up(&inner).await?;
    for (range, address) in ranges.iter().zip(addresses) {
        pod.address(&inner, *address, whole(*address)).await?;
        pod.default_route(&inner, range.gateway()).await?;
    }
    Ok(inner)
}

fn document(conf: &Conf, attached: Attached, sandbox: String, ranges: &[Range], addresses: &[IpAddr]) -> AddResult {
    let interface = |link: Link| Interface { name: link.name, mac: link.mac, ..Interface::default() };
    let pod = Interface { sandbox, ..interface(attached.inner) };
    let ips = ranges.iter().zip(addresses).map(|(range, address)| Address {
        address: format!("{address}/{}", whole(*address)),
        gateway: Some(range.gateway()),
        interface: Some(2),
    });
    let route = |range: &Range| Route {
        dst: if range.is_ipv6 { "::/0" } else { "0.0.0.0/0" }.into(),
        gw: Some(range.gateway()),
    };
    AddResult {
        cni_version: conf.cni_version.clone(),
        interfaces: vec![interface(attached.bridge), attached.outer, pod],
        ips: ips.collect(),
        routes: ranges.iter().map(route).collect(),
        ..AddResult::default()
    }
}

/// Idempotent, and happy with a namespace that is gone: the host's end of the pair is all there is to remove.
pub fn del(conf: &Conf, attachment: &Attachment) -> Result<()> {
    let leases = Leases::open(&conf.data_dir, &conf.name)?;
    let name = outer_name(attachment);
    namespace::run(None, || async { Links::open()?.remove(&name).await })?;
    if let Some(addresses) = leases.held(attachment)? {
        host_ports::close(&conf.data_dir, &addresses)?;
    }
    leases.release(attachment)
}

pub fn check(conf: &Conf, target: &Target) -> Result<()> {
    let namespace = namespace::open(target.netns()?)?;
    let leased = Leases::open(&conf.data_dir, &conf.name)?.held(&target.attachment)?;
    let addresses = leased.ok_or_else(|| {
        CniError::new(Code::UnknownContainer, format!("{} has no address", target.attachment.container))
    })?;
    let outer = outer_name(&target.attachment);
    namespace::run(None, || async {
        Links::open()?.must_find(&outer).await?;
        namespace::enter(&namespace)?;
        let links = Links::open()?;
        let inner = links.must_find(&target.attachment.ifname).await?;
        let found = links.addresses(&inner).await?;
        match addresses.iter().find(|address| !found.contains(address)) {
            None => Ok(()),
            Some(lost) => Err(CniError::new(Code::Network, format!("{} lost its address {lost}", inner.name))),
        }
    })?;
    let ports = host_ports::host_ports(&conf.runtime_config.port_mappings, &addresses)?;
    match ports.is_empty() || host_ports::check(&ports)? {
        true => Ok(()),
        false => Err(CniError::new(Code::Network, format!("{} lost a host port", target.attachment.container))),
    }
}

/// Removes what belongs to no attachment that the runtime still has.
pub fn collect(conf: &Conf) -> Result<()> {
    let leases = Leases::open(&conf.data_dir, &conf.name)?;
    for gone in leases.attachments()?.into_iter().filter(|it| !conf.valid_attachments.contains(it)) {
        del(conf, &gone)?;
        leases.purge(&gone)?;
    }
    host_ports::collect(&conf.data_dir, &leases.addresses()?)
}

pub fn status(conf: &Conf) -> Result<()> {
    let taken = Leases::open(&conf.data_dir, &conf.name)?.addresses()?;
    for range in conf.ranges()? {
        let of_range = taken.iter().filter(|address| range.position(**address).is_some()).count();
        if of_range >= range.size() as usize {
            return Err(CniError::new(Code::NotAvailable, format!("all {of_range} addresses for pods are taken")));
        }
    }
    Ok(())
}

pub fn add_loopback(conf: &Conf, target: &Target) -> Result<AddResult> {
    let netns = target.netns()?;
    let namespace = namespace::open(netns)?;
    namespace::run(Some(&namespace), || async {
        let links = Links::open()?;
        links.up(&links.must_find("lo").await?).await
    })
    .context(Code::Network, || format!("cannot bring up the loopback device of {}", netns.display()))?;
    let sandbox = netns.display().to_string();
    Ok(AddResult {
        cni_version: conf.cni_version.clone(),
        interfaces: vec![Interface { name: "lo".into(), mac: "00:00:00:00:00:00".into(), sandbox }],
        ips: vec![Address { address: "127.0.0.1/8".into(), gateway: None, interface: Some(0) }],
        ..AddResult::default()
    })
}

/// The host's end: a name that follows from the attachment, so that it is found again without a record.
pub fn outer_name(attachment: &Attachment) -> String {
    let hex: String = digest(attachment).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("veth{hex}")
}

/// Locally administered, and of no pod.
fn outer_mac(attachment: &Attachment) -> Vec<u8> {
    let [a, b, c, d, e] = digest(attachment);
    vec![0x0e, a, b, c, d, e]
}

fn digest(attachment: &Attachment) -> [u8; 5] {
    let mut hash = Sha256::new();
    hash.update(attachment.container.as_bytes());
    hash.update(b"/");
    hash.update(attachment.ifname.as_bytes());
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_the_kernel_and_tell_attachments_apart() {
        let name = |container: &str| outer_name(&Attachment { container: container.into(), ifname: "eth0".into() });
        assert_eq!(name("a").len(), 14);
        assert_ne!(name("a"), name("b"));
    }
}
