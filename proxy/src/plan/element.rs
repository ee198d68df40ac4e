//! What a Service is in the kernel: elements of the constant sets and maps.
//!
//! Must not know: Kubernetes' objects, and the elements' bytes.

use std::fmt;
use std::net::IpAddr;

use pintle_nftables::Family;

/// A transport protocol, by its IP number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    /// From `spec.ports[].protocol`; Kubernetes' default is TCP.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| *protocol as u8 == number)
    }

    /// The lower-case name, as in DNS SRV labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// An address and a port that something listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub address: IpAddr,
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

/// Where clients send packets to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.address, self.protocol.label(), self.port)
    }
}

/// What happens to a new connection to a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Accept = 0,
    /// No endpoints anywhere.
    Reject = 1,
    /// No endpoints that the traffic policy allows.
    Drop = 2,
    /// Only from the allowed sources.
    Firewall = 3,
}

/// Whether a translated connection gets this node's address as its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masquerade {
    Never = 0,
    /// Cluster addresses: clients that are no pods.
    UnlessPod = 1,
    /// External addresses under policy Cluster: the endpoint may be on another node.
    Always = 2,
    /// External addresses under policy Local: only this host itself.
    IfHost = 3,
}

impl Action {
    pub const ALL: [Self; 4] = [Self::Accept, Self::Reject, Self::Drop, Self::Firewall];
}

impl Masquerade {
    pub const ALL: [Self; 4] = [Self::Never, Self::UnlessPod, Self::Always, Self::IfHost];
}

/// How a frontend is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handling {
    /// The endpoints to pick from: `2 * service`, plus 1 for the local ones.
    pub group: u32,
    /// How many endpoints the group has.
    pub count: u32,
    /// Session affinity in seconds; 0 for none.
    pub affinity: u32,
    pub action: Action,
    pub masquerade: Masquerade,
    /// The Service port, for affinity across all its frontends.
    pub service: u32,
}

impl Handling {
    /// Action and masquerade as the one number the verdict maps are keyed by.
    pub fn policy(&self) -> u32 {
        policy(self.action, self.masquerade)
    }
}

pub fn policy(action: Action, masquerade: Masquerade) -> u32 {
    action as u32 | (masquerade as u32) << 8
}

/// The two readers of the frontends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The map `services`.
    Cluster,
    /// The map `external-local`.
    Local,
}

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// An element without its value: what makes it one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Frontend(Lane, Frontend),
    Endpoint { group: u32, index: u32 },
    Member { group: u32, target: Target },
    Hairpin(IpAddr),
    ClusterIp(IpAddr),
    AllowedSource(Frontend, Range),
}

/// The value of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    None,
    Handling(Handling),
    Target(Target),
}

/// A Service's part of the ruleset: elements sorted by key, each key once.
pub type Elements = Vec<(Key, Value)>;

pub fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}
