//! Conntrack's entries: listed, and single ones deleted. UDP clients keep their source port, so their entry outlives
//! the endpoint it points to.
//!
//! Must not know: which entries are stale.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use nix::errno::Errno;

use crate::Family;
use crate::netlink::Socket;
use crate::netlink::wire::{Attributes, DUMP, Header, REQUEST, Writer};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_…`.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;

/// A flow, and the bytes the kernel knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its IP protocol number.
    pub protocol: u8,
    /// Where the client sends, before any translation.
    pub destination: SocketAddr,
    /// Who answers.
    pub answers: SocketAddr,
    tuple: Vec<u8>,
}

/// The flows of one family that have ports.
pub fn list(socket: &mut Socket, family: Family) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut request = Writer::default();
    request.begin_message(header(GET, DUMP, family));
    request.end_message();
    let each = |message: &crate::netlink::wire::Message<'_>| found.extend(read(message.attributes(), family));
    socket.dump(request.bytes(), each).context("listing conntrack entries")?;
    Ok(found)
}

/// Deletes the entry; one that is gone already is fine.
pub fn delete(socket: &mut Socket, family: Family, entry: &Entry) -> anyhow::Result<()> {
    let mut request = Writer::default();
    request.begin_message(header(DELETE, 0, family));
    request.nested_bytes(ORIGINAL, &entry.tuple);
    request.end_message();
    match socket.transact(request.bytes())?.into_iter().find(|error| error.errno != Errno::ENOENT) {
        Some(error) => Err(error).context("deleting a conntrack entry"),
        None => Ok(()),
    }
}

fn header(kind: u16, flags: u16, family: Family) -> Header {
    Header { kind, flags: REQUEST | flags, sequence: 0, family: family.number(), resource: 0 }
}

fn read(attributes: Attributes<'_>, family: Family) -> Option<Entry> {
    let original = attributes.inside(ORIGINAL)?;
    let (_, destination, protocol) = tuple(original, family)?;
    let (answers, _, _) = tuple(attributes.inside(REPLY)?, family)?;
    Some(Entry { protocol, destination, answers, tuple: original.0.to_vec() })
}

/// Source, destination and protocol.
fn tuple(attributes: Attributes<'_>, family: Family) -> Option<(SocketAddr, SocketAddr, u8)> {
    let (addresses, protocol) = (attributes.inside(1)?, attributes.inside(2)?);
    let (from, to) = if family == Family::V4 { (1, 2) } else { (3, 4) };
    let end = |address, port| {
        let port = u16::from_be_bytes(*protocol.find(port)?.first_chunk()?);
        Some(SocketAddr::new(ip(addresses.find(address)?)?, port))
    };
    Some((end(from, 2)?, end(to, 3)?, *protocol.find(1)?.first()?))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
}
