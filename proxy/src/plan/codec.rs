//! Elements to the kernel's bytes and back: fields in order, each padded to 4 bytes; addresses and ports in network
//! order, our own numbers in host order (registers compare bytes).
//!
//! Must not know: netlink's framing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::element::{Action, Frontend, Handling, Key, Lane, Masquerade, Protocol, Range, Target, Value};
use super::sets;
use pintle_nftables::{Element, ElementData, Family, RawElement};

/// The set that holds the key.
pub fn set_name(key: &Key) -> &'static str {
    match key {
        Key::Frontend(Lane::Cluster, _) => sets::SERVICES,
        Key::Frontend(Lane::Local, _) => sets::EXTERNAL_LOCAL,
        Key::Endpoint { .. } => sets::ENDPOINTS,
        Key::Member { .. } => sets::MEMBERS,
        Key::Hairpin(_) => sets::HAIRPIN,
        Key::ClusterIp(_) => sets::CLUSTER_IPS,
        Key::AllowedSource(..) => sets::ALLOWED_SOURCES,
    }
}

/// The sets whose elements are planned, in the order they are read back.
pub const PLANNED: [&str; 7] = [
    sets::SERVICES,
    sets::EXTERNAL_LOCAL,
    sets::ENDPOINTS,
    sets::MEMBERS,
    sets::HAIRPIN,
    sets::CLUSTER_IPS,
    sets::ALLOWED_SOURCES,
];

pub fn encode(key: &Key, value: &Value) -> Element {
    let mut bytes = Vec::with_capacity(24);
    let mut end = None;
    match key {
        Key::Frontend(_, frontend) => put_frontend(&mut bytes, frontend),
        Key::Endpoint { group, index } => [group, index].into_iter().for_each(|n| bytes.extend(n.to_ne_bytes())),
        Key::Member { group, target } => {
            bytes.extend(group.to_ne_bytes());
            put_target(&mut bytes, target);
        }
        Key::Hairpin(address) => (0..2).for_each(|_| put_address(&mut bytes, *address)),
        Key::ClusterIp(address) => put_address(&mut bytes, *address),
        Key::AllowedSource(frontend, range) => {
            put_frontend(&mut bytes, frontend);
            let mut last = bytes.clone();
            put_address(&mut bytes, range.first);
            put_address(&mut last, range.last);
            end = Some(last);
        }
    }
    let data = match (value, end) {
        (_, Some(end)) => ElementData::RangeEnd(end),
        (Value::None, None) => ElementData::None,
        (Value::Handling(handling), None) => ElementData::Value(handling_bytes(handling)),
        (Value::Target(target), None) => {
            let mut bytes = Vec::with_capacity(20);
            put_target(&mut bytes, target);
            ElementData::Value(bytes)
        }
    };
    Element { key: bytes, data }
}

/// A range of addresses as an element of a set of ranges.
pub fn encode_range(range: &Range) -> Element {
    let mut key = Vec::new();
    let mut end = Vec::new();
    put_address(&mut key, range.first);
    put_address(&mut end, range.last);
    Element { key, data: ElementData::RangeEnd(end) }
}

/// What the kernel holds in `set`, as planned elements; None for bytes this version would not have written.
pub fn decode(family: Family, set: &str, raw: &RawElement) -> Option<(Key, Value)> {
    let mut key = Reader { bytes: &raw.key, family };
    let mut value = Reader { bytes: raw.value.as_deref().unwrap_or_default(), family };
    let decoded = match set {
        sets::SERVICES => (Key::Frontend(Lane::Cluster, key.frontend()?), Value::Handling(value.handling()?)),
        sets::EXTERNAL_LOCAL => (Key::Frontend(Lane::Local, key.frontend()?), Value::Handling(value.handling()?)),
        sets::ENDPOINTS => {
            (Key::Endpoint { group: key.number()?, index: key.number()? }, Value::Target(value.target()?))
        }
        sets::MEMBERS => (Key::Member { group: key.number()?, target: key.target()? }, Value::None),
        sets::HAIRPIN => (Key::Hairpin(key.address()?), Value::None),
        sets::CLUSTER_IPS => (Key::ClusterIp(key.address()?), Value::None),
        sets::ALLOWED_SOURCES => {
            let frontend = key.frontend()?;
            let first = key.address()?;
            let mut end = Reader { bytes: raw.end.as_deref().unwrap_or(&raw.key), family };
            end.frontend()?;
            (Key::AllowedSource(frontend, Range { first, last: end.address()? }), Value::None)
        }
        _ => return None,
    };
    Some(decoded)
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend(address.octets()),
        IpAddr::V6(address) => bytes.extend(address.octets()),
    }
}

fn put_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
}

fn put_target(bytes: &mut Vec<u8>, target: &Target) {
    put_address(bytes, target.address);
    put_port(bytes, target.port);
}

fn put_frontend(bytes: &mut Vec<u8>, frontend: &Frontend) {
    put_address(bytes, frontend.address);
    bytes.extend([frontend.protocol as u8, 0, 0, 0]);
    put_port(bytes, frontend.port);
}

fn handling_bytes(handling: &Handling) -> Vec<u8> {
    [handling.service, handling.group, handling.count, handling.affinity, handling.policy()]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}

struct Reader<'a> {
    bytes: &'a [u8],
    family: Family,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.family {
            Family::V4 => self.take::<4>().map(|octets| Ipv4Addr::from(octets).into()),
            Family::V6 => self.take::<16>().map(|octets| Ipv6Addr::from(octets).into()),
        }
    }

    fn port(&mut self) -> Option<u16> {
        self.take::<4>().map(|[high, low, _, _]| u16::from_be_bytes([high, low]))
    }

    fn target(&mut self) -> Option<Target> {
        Some(Target { address: self.address()?, port: self.port()? })
    }

    fn frontend(&mut self) -> Option<Frontend> {
        let address = self.address()?;
        let [protocol, ..] = self.take::<4>()?;
        Some(Frontend { address, protocol: Protocol::from_number(protocol)?, port: self.port()? })
    }

    fn handling(&mut self) -> Option<Handling> {
        let [service, group, count, affinity, policy] =
            [self.number()?, self.number()?, self.number()?, self.number()?, self.number()?];
        let action = Action::ALL.into_iter().find(|action| *action as u32 == policy & 0xff)?;
        let masquerade = Masquerade::ALL.into_iter().find(|masquerade| *masquerade as u32 == policy >> 8)?;
        Some(Handling { group, count, affinity, action, masquerade, service })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(family: Family, key: Key, value: Value) {
        let element = encode(&key, &value);
        let (value_bytes, end) = match element.data {
            ElementData::Value(bytes) => (Some(bytes), None),
            ElementData::RangeEnd(end) => (None, Some(end)),
            _ => (None, None),
        };
        let raw = RawElement { key: element.key, end, value: value_bytes };
        assert_eq!(decode(family, set_name(&key), &raw), Some((key, value)));
    }

    #[test]
    fn every_kind_of_element_reads_back() {
        for (family, address) in [(Family::V4, "10.96.0.1"), (Family::V6, "fd00::1")] {
            let address: IpAddr = address.parse().expect("an address");
            let frontend = Frontend { address, protocol: Protocol::Sctp, port: 443 };
            let target = Target { address, port: 6443 };
            let handling = Handling {
                group: 7,
                count: 3,
                affinity: 10_800,
                action: Action::Firewall,
                masquerade: Masquerade::IfHost,
                service: 3,
            };
            round_trip(family, Key::Frontend(Lane::Cluster, frontend), Value::Handling(handling));
            round_trip(family, Key::Frontend(Lane::Local, frontend), Value::Handling(handling));
            round_trip(family, Key::Endpoint { group: 7, index: 2 }, Value::Target(target));
            round_trip(family, Key::Member { group: 7, target }, Value::None);
            round_trip(family, Key::Hairpin(address), Value::None);
            round_trip(family, Key::ClusterIp(address), Value::None);
            let range = Range { first: address, last: address };
            round_trip(family, Key::AllowedSource(frontend, range), Value::None);
        }
    }

    #[test]
    fn short_or_foreign_bytes_are_no_elements() {
        let raw = RawElement { key: vec![1, 2, 3], end: None, value: None };
        for set in PLANNED {
            assert_eq!(decode(Family::V4, set, &raw), None);
        }
    }
}
