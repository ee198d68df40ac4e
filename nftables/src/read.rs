//! Reading back what the kernel holds: the table's comment, and the elements of a set.
//!
//! Must not know: what elements mean.

use anyhow::Context as _;
use nix::errno::Errno;

use super::SUBSYSTEM;
use super::message::{GET_CHAIN, GET_ELEMENT, GET_GENERATION, GET_TABLE};
use super::object::Family;
use crate::netlink::wire::{Attributes, DUMP, Header, REQUEST, Writer};
use crate::netlink::{KernelError, Socket};

/// An element as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawElement {
    pub key: Vec<u8>,
    /// Of a range of concatenated fields.
    pub end: Option<Vec<u8>>,
    /// Of a map of values.
    pub value: Option<Vec<u8>>,
}

/// The comment of the table, `Some("")` when it has none, None when there is no such table.
pub fn table_comment(socket: &mut Socket, family: Family, table: &str) -> anyhow::Result<Option<String>> {
    let mut found = None;
    let request = request(GET_TABLE, DUMP, family, |_| {});
    socket.dump(request.bytes(), |message| {
        let attributes = message.attributes();
        if name(attributes, 1) == Some(table) {
            found = Some(attributes.find(6).and_then(comment).unwrap_or_default());
        }
    })?;
    Ok(found)
}

/// What a base chain does with packets that none of its rules decided (`NF_DROP` is 0, `NF_ACCEPT` 1); None when there is
/// no such base chain.
pub fn chain_policy(socket: &mut Socket, family: Family, table: &str, chain: &str) -> anyhow::Result<Option<u32>> {
    let mut found = None;
    let request = request(GET_CHAIN, DUMP, family, |_| {});
    socket.dump(request.bytes(), |message| {
        let attributes = message.attributes();
        if name(attributes, 1) == Some(table) && name(attributes, 3) == Some(chain) {
            found = attributes.find(5).and_then(|value| value.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
        }
    })?;
    Ok(found)
}

/// Every element of the set; none when there is no such set.
pub fn elements(socket: &mut Socket, family: Family, table: &str, set: &str) -> anyhow::Result<Vec<RawElement>> {
    let mut found = Vec::new();
    let request = request(GET_ELEMENT, DUMP, family, |w| {
        w.string(1, table);
        w.string(2, set);
    });
    let dumped = socket.dump(request.bytes(), |message| {
        let Some(list) = message.attributes().inside(3) else { return };
        found.extend(list.filter_map(|(_, element)| read_element(Attributes(element))));
    });
    match dumped {
        Err(error) if error.downcast_ref::<KernelError>().is_some_and(|e| e.errno == Errno::ENOENT) => Ok(Vec::new()),
        other => other.map(|()| found),
    }
}

/// The number of changes made in this network namespace so far, by anybody; it wraps around past `u32::MAX` to 1.
pub fn generation(socket: &mut Socket) -> anyhow::Result<u32> {
    let request = request(GET_GENERATION, 0, Family::V4, |_| {});
    let mut found = None;
    socket.ask(request.bytes(), |message| {
        let id = message.attributes().find(1).and_then(|value| value.first_chunk());
        found = found.or(id.map(|bytes| u32::from_be_bytes(*bytes)));
    })?;
    found.context("netfilter told no generation")
}

fn request(message: u16, flags: u16, family: Family, fill: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    let kind = SUBSYSTEM << 8 | message;
    writer.begin_message(Header { kind, flags: REQUEST | flags, sequence: 0, family: family.number(), resource: 0 });
    fill(&mut writer);
    writer.end_message();
    writer
}

fn read_element(attributes: Attributes<'_>) -> Option<RawElement> {
    let value_of = |kind| attributes.inside(kind).and_then(|data| data.find(1)).map(<[u8]>::to_vec);
    Some(RawElement { key: value_of(1)?, end: value_of(10), value: value_of(2) })
}

fn name(attributes: Attributes<'_>, kind: u16) -> Option<&str> {
    std::str::from_utf8(attributes.find(kind)?).ok().map(|text| text.trim_end_matches('\0'))
}

/// The comment in libnftnl user data: entries of type, length, bytes.
fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_string());
        }
        userdata = &rest[usize::from(*length)..];
    }
    None
}
