//! A node's pod CIDR as a sequence of addresses: the first is the gateway's, the following are pods'.
//!
//! Must not know: who has which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that are given from one range at most: enough for any node, and a bound for looking one up.
const MOST: u32 = 1 << 24;

/// A CIDR with room for a gateway and a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: u128,
    pub length: u8,
    pub is_ipv6: bool,
}

impl Range {
    /// `None` for what is no CIDR, or one that is too small (or, as a pod CIDR, implausibly large).
    pub fn parse(cidr: &str) -> Option<Self> {
        let (address, length) = cidr.trim().split_once('/')?;
        let length: u8 = length.parse().ok()?;
        let (number, is_ipv6) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), false),
            IpAddr::V6(address) => (u128::from(address), true),
        };
        let (shortest, longest, bits) = if is_ipv6 { (16, 126, 128) } else { (8, 30, 32) };
        let host = 128 - (bits - length.min(bits));
        let mask = u128::MAX.checked_shl(u32::from(128 - host)).unwrap_or_default();
        (shortest..=longest).contains(&length).then_some(Self { base: number & mask, length, is_ipv6 })
    }

    pub fn gateway(self) -> IpAddr {
        self.at(1)
    }

    /// How many addresses pods can have: all but the network's, the gateway's and the last, which IPv4 broadcasts to.
    pub fn size(self) -> u32 {
        let bits = if self.is_ipv6 { 128 } else { 32 } - u32::from(self.length);
        if bits > 24 { MOST } else { (1 << bits) - 3 }
    }

    /// The `n`-th address for pods, wrapping around.
    pub fn address(self, n: u32) -> IpAddr {
        self.at(2 + n % self.size())
    }

    /// The inverse of [`Range::address`]; `None` for what no pod may have.
    pub fn position(self, address: IpAddr) -> Option<u32> {
        let number = match (address, self.is_ipv6) {
            (IpAddr::V4(address), false) => u128::from(u32::from(address)),
            (IpAddr::V6(address), true) => u128::from(address),
            _ => return None,
        };
        let offset = u32::try_from(number.checked_sub(self.base + 2)?).ok()?;
        (offset < self.size()).then_some(offset)
    }

    fn at(self, offset: u32) -> IpAddr {
        let number = self.base + u128::from(offset);
        match self.is_ipv6 {
            true => Ipv6Addr::from(number).into(),
            // Of an IPv4 range only the lower half is ever set.
            false => Ipv4Addr::from(number as u32).into(),
        }
    }
}

/// The prefix length of a single address.
pub fn whole(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_address_is_the_gateways_and_the_last_nobodys() {
        let range = Range::parse("10.244.4.9/30").unwrap();
        assert_eq!(range.gateway(), ip("10.244.4.9"));
        assert_eq!((range.size(), range.address(0)), (1, ip("10.244.4.10")));
        assert_eq!(range.position(ip("10.244.4.10")), Some(0));
        for other in ["10.244.4.11", "10.244.4.9", "fd00::1"] {
            assert_eq!(range.position(ip(other)), None, "{other}");
        }
    }

    #[test]
    fn ipv6_ranges_count_alike() {
        let range = Range::parse("fd10:244:0:3::7/64").unwrap();
        assert_eq!(range.gateway(), ip("fd10:244:0:3::1"));
        assert_eq!(range.address(0), ip("fd10:244:0:3::2"));
        assert_eq!(range.position(ip("fd10:244:0:3::ff")), Some(0xfd));
        assert_eq!(range.position(ip("fd10:244:0:4::2")), None);
        assert_eq!(range.size(), MOST);
        assert_eq!(range.address(MOST), range.address(0));
    }

    #[test]
    fn other_ranges_are_refused() {
        for cidr in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/33", "10.0.0.0/0", "fd00::/127", "fd00::/300", "x/24"] {
            assert_eq!(Range::parse(cidr), None, "{cidr}");
        }
    }
}
