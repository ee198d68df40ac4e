//! Address ranges: CIDRs as first and last address.
//!
//! Must not know: what ranges are for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::element::Range;

/// `10.0.0.0/8` or `fd00::/64` as a range; None when it is neither.
pub fn parse_range(cidr: &str) -> Option<Range> {
    let (address, length) = cidr.split_once('/')?;
    range(address.parse().ok()?, length.parse().ok()?)
}

fn range(address: IpAddr, length: u32) -> Option<Range> {
    match address {
        IpAddr::V4(address) if length <= 32 => {
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            let first = u32::from(address) & !hosts;
            Some(Range { first: Ipv4Addr::from(first).into(), last: Ipv4Addr::from(first | hosts).into() })
        }
        IpAddr::V6(address) if length <= 128 => {
            let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
            let first = u128::from(address) & !hosts;
            Some(Range { first: Ipv6Addr::from(first).into(), last: Ipv6Addr::from(first | hosts).into() })
        }
        _ => None,
    }
}

impl Range {
    /// The one address.
    pub fn single(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }
}

/// Without those that lie within another: the kernel refuses ranges that overlap, and CIDRs overlap only by nesting.
pub fn outermost(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by(|a, b| a.first.cmp(&b.first).then(b.last.cmp(&a.last)));
    let mut kept: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if !kept.last().is_some_and(|outer| outer.contains(range.first) && outer.contains(range.last)) {
            kept.push(range);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_are_ranges() {
        let range = parse_range("10.1.2.3/8").expect("a range");
        assert_eq!((range.first.to_string(), range.last.to_string()), ("10.0.0.0".into(), "10.255.255.255".into()));
        assert_eq!(parse_range("fd00::/64").map(|r| r.last.to_string()), Some("fd00::ffff:ffff:ffff:ffff".into()));
        assert_eq!(parse_range("0.0.0.0/0").map(|r| r.last.to_string()), Some("255.255.255.255".into()));
        assert_eq!(parse_range("10.0.0.0/33"), None);
        assert_eq!(parse_range("10.0.0.0"), None);
    }

    #[test]
    fn nested_ranges_are_dropped() {
        let ranges = ["10.1.0.0/16", "10.0.0.0/8", "192.168.0.0/24", "10.0.0.0/8"];
        let kept = outermost(ranges.iter().filter_map(|r| parse_range(r)).collect());
        assert_eq!(kept, [parse_range("10.0.0.0/8"), parse_range("192.168.0.0/24")].map(|r| r.expect("a range")));
    }
}
