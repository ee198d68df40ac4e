//! Counters of a network's links, and the metrics that are made of them.
//!
//! Must not know: whose network it is.

use std::{fs, io};

/// What went through a link.
#[derive(Debug, Default, PartialEq)]
pub struct Link {
    pub name: String,
    pub received: Counts,
    pub sent: Counts,
}

/// One way.
#[derive(Debug, Default, PartialEq)]
pub struct Counts {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// Counters of every link but the loopback in the network of this thread.
///
/// # Errors
/// There is no `/proc`.
pub fn links() -> io::Result<Vec<Link>> {
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(text.lines().skip(2).filter_map(line).filter(|link| link.name != "lo").collect())
}

/// `  eth0: 1 2 3 …`: eight numbers of what came in, then eight of what went out.
fn line(line: &str) -> Option<Link> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let counts = |from: usize| match numbers.get(from..from + 4) {
        Some(&[bytes, packets, errors, dropped]) => Counts { bytes, packets, errors, dropped },
        _ => Counts::default(),
    };
    Some(Link { name: name.trim().to_owned(), received: counts(0), sent: counts(8) })
}

/// A metric of a link.
pub struct OfLink {
    pub name: &'static str,
    pub help: &'static str,
    pub of: fn(&Link) -> u64,
}

const fn of_link(name: &'static str, help: &'static str, of: fn(&Link) -> u64) -> OfLink {
    OfLink { name, help, of }
}

pub const LINKS: [OfLink; 8] = [
    of_link("container_network_receive_bytes_total", "Cumulative count of bytes received.", |link| link.received.bytes),
    of_link("container_network_receive_packets_total", "Cumulative count of packets received.", |link| {
        link.received.packets
    }),
    of_link(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving.",
        |link| link.received.errors,
    ),
    of_link(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving.",
        |link| link.received.dropped,
    ),
    of_link("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", |link| link.sent.bytes),
    of_link("container_network_transmit_packets_total", "Cumulative count of packets transmitted.", |link| {
        link.sent.packets
    }),
    of_link(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting.",
        |link| link.sent.errors,
    ),
    of_link(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting.",
        |link| link.sent.dropped,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_counted_both_ways() {
        let link = line("  eth0: 100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0").unwrap();
        assert_eq!(link.name, "eth0");
        assert_eq!(link.received, Counts { bytes: 100, packets: 2, errors: 3, dropped: 4 });
        assert_eq!(link.sent, Counts { bytes: 200, packets: 5, errors: 6, dropped: 7 });
    }
}
