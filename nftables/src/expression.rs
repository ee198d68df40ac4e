//! The expressions rules are made of, their wire form, and their text for golden tests.
//!
//! Registers are the kernel's sixteen of 32 bits; a value of n bytes fills the following ones.
//! Numbers and names: `include/uapi/linux/netfilter/nf_tables.h`. Must not know: what a rule is for.

use std::fmt;

use super::object::Family;
use crate::netlink::wire::Writer;

/// One of the sixteen 32-bit registers, `0..16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(pub u32);

impl Register {
    /// `NFT_REG32_00` is 8.
    fn number(self) -> u32 {
        8 + self.0
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Where a packet goes next. Chains by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Verdict {
    /// Writes `NFTA_DATA_VERDICT` (the caller has opened the data attribute).
    pub(super) fn write(&self, w: &mut Writer) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Return => (-5, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        w.nested(2, |w| {
            w.be32(1, code as u32);
            if let Some(chain) = chain {
                w.string(2, chain);
            }
        });
    }
}

/// Facts about a packet that are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The transport protocol, one byte.
    L4Proto,
    /// The index of the link it came by, host order; the loopback device's is 1.
    InputLink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    Network,
    Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmp {
    Equal,
    NotEqual,
}

/// What conntrack knows; the `Original…` keys are those of the connection's first packet before any translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    State,
    Status,
    OriginalDestination(Family),
    OriginalDestinationPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynsetOp {
    Update,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibAddress {
    Source,
    Destination,
}

/// One expression. A rule is a list of them; the first that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    Meta {
        key: MetaKey,
        to: Register,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        to: Register,
    },
    Cmp {
        register: Register,
        op: Cmp,
        value: Vec<u8>,
    },
    /// `to = from & mask`.
    And {
        from: Register,
        to: Register,
        mask: Vec<u8>,
    },
    /// Matches when the key is in the set; a map's value goes to `to`.
    Lookup {
        set: &'static str,
        key: Register,
        to: Option<Register>,
        inverted: bool,
    },
    /// Takes the verdict the map holds under the key.
    LookupVerdict {
        map: &'static str,
        key: Register,
    },
    Immediate {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// A uniformly random number in `0..modulus`.
    Random {
        modulus: u32,
        to: Register,
    },
    Ct {
        key: CtKey,
        to: Register,
    },
    /// The type of an address (`RTN_LOCAL` is 2).
    FibType {
        address: FibAddress,
        to: Register,
    },
    /// Adds, refreshes or removes an element of a dynamic map.
    Dynset {
        map: &'static str,
        op: DynsetOp,
        key: Register,
        data: Register,
        timeout_ms: u64,
    },
    Dnat {
        family: Family,
        address: Register,
        port: Register,
    },
    /// To the address of the leaving interface, with a random port.
    Masquerade,
    /// ICMP port unreachable.
    Reject {
        family: Family,
    },
    /// TCP only.
    RejectWithReset,
}

impl Expr {
    /// Writes `NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA }`.
    pub(super) fn write(&self, w: &mut Writer) {
        w.nested(1, |w| {
            w.string(1, self.name());
            w.nested(2, |w| self.write_data(w));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::And { .. } => "bitwise",
            Self::Lookup { .. } | Self::LookupVerdict { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Random { .. } => "numgen",
            Self::Ct { .. } => "ct",
            Self::FibType { .. } => "fib",
            Self::Dynset { .. } => "dynset",
            Self::Dnat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject { .. } | Self::RejectWithReset => "reject",
        }
    }

    fn write_data(&self, w: &mut Writer) {
        match self {
            Self::Meta { key, to } => {
                w.be32(1, to.number());
                w.be32(2, if *key == MetaKey::L4Proto { 16 } else { 4 });
            }
            Self::Payload { base, offset, length, to } => write_payload(w, *base, *offset, *length, *to),
            Self::Cmp { register, op, value } => {
                w.be32(1, register.number());
                w.be32(2, u32::from(*op == Cmp::NotEqual));
                w.nested(3, |w| w.attribute(1, value));
            }
            Self::And { from, to, mask } => write_and(w, *from, *to, mask),
            Self::Lookup { set, key, to, inverted } => write_lookup(w, set, *key, to.map(Register::number), *inverted),
            Self::LookupVerdict { map, key } => write_lookup(w, map, *key, Some(0), false),
            Self::Immediate { to, value } => {
                w.be32(1, to.number());
                w.nested(2, |w| w.attribute(1, value));
            }
            Self::Verdict(verdict) => {
                w.be32(1, 0);
                w.nested(2, |w| verdict.write(w));
            }
            Self::Random { modulus, to } => {
                w.be32(1, to.number());
                w.be32(2, *modulus);
                w.be32(3, 1);
            }
            Self::Ct { key, to } => write_ct(w, *key, *to),
            Self::FibType { address, to } => {
                w.be32(1, to.number());
                w.be32(2, 3);
                w.be32(3, if *address == FibAddress::Source { 1 } else { 2 });
            }
            Self::Dynset { map, op, key, data, timeout_ms } => write_dynset(w, map, *op, *key, *data, *timeout_ms),
            Self::Dnat { family, address, port } => {
                w.be32(1, 1);
                w.be32(2, u32::from(family.number()));
                w.be32(3, address.number());
                w.be32(5, port.number());
            }
            Self::Masquerade => w.be32(1, 16),
            Self::RejectWithReset => w.be32(1, 1),
            Self::Reject { family } => {
                w.be32(1, 0);
                w.u8(2, if *family == Family::V4 { 3 } else { 4 });
            }
        }
    }
}

fn write_payload(w: &mut Writer, base: PayloadBase, offset: u32, length: u32, to: Register) {
    w.be32(1, to.number());
    w.be32(2, if base == PayloadBase::Network { 1 } else { 2 });
    w.be32(3, offset);
    w.be32(4, length);
}

fn write_and(w: &mut Writer, from: Register, to: Register, mask: &[u8]) {
    w.be32(1, from.number());
    w.be32(2, to.number());
    w.be32(3, mask.len() as u32);
    w.nested(4, |w| w.attribute(1, mask));
    w.nested(5, |w| w.attribute(1, &vec![0; mask.len()]));
}

fn write_lookup(w: &mut Writer, set: &str, key: Register, to: Option<u32>, inverted: bool) {
    w.string(1, set);
    w.be32(2, key.number());
    if let Some(to) = to {
        w.be32(3, to);
    }
    if inverted {
        w.be32(5, 1);
    }
}

fn write_ct(w: &mut Writer, key: CtKey, to: Register) {
    let (number, original) = match key {
        CtKey::State => (0, false),
        CtKey::Status => (2, false),
        CtKey::OriginalDestination(Family::V4) => (20, true),
        CtKey::OriginalDestination(Family::V6) => (22, true),
        CtKey::OriginalDestinationPort => (12, true),
    };
    w.be32(1, to.number());
    w.be32(2, number);
    if original {
        w.u8(3, 0);
    }
}

fn write_dynset(w: &mut Writer, map: &str, op: DynsetOp, key: Register, data: Register, timeout_ms: u64) {
    w.string(1, map);
    w.be32(3, if op == DynsetOp::Update { 1 } else { 2 });
    w.be32(4, key.number());
    w.be32(5, data.number());
    if op == DynsetOp::Update {
        w.be64(6, timeout_ms);
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta { key: MetaKey::L4Proto, to } => write!(f, "{to} = l4proto"),
            Self::Meta { key: MetaKey::InputLink, to } => write!(f, "{to} = iif"),
            Self::Payload { base, offset, length, to } => {
                let base = if *base == PayloadBase::Network { "network" } else { "transport" };
                write!(f, "{to} = {base}[{offset}..{}]", offset + length)
            }
            Self::Cmp { register, op, value } => {
                write!(f, "{register} {} {}", if *op == Cmp::Equal { "==" } else { "!=" }, Bytes(value))
            }
            Self::And { from, to, mask } => write!(f, "{to} = {from} & {}", Bytes(mask)),
            Self::Lookup { set, key, to, inverted } => {
                write!(f, "{key} {}in @{set}", if *inverted { "not " } else { "" })?;
                to.map_or(Ok(()), |to| write!(f, " -> {to}"))
            }
            Self::LookupVerdict { map, key } => write!(f, "{key} vmap @{map}"),
            Self::Immediate { to, value } => write!(f, "{to} = {}", Bytes(value)),
            Self::Verdict(verdict) => write!(f, "{verdict}"),
            Self::Random { modulus, to } => write!(f, "{to} = random mod {modulus}"),
            Self::Ct { key, to } => write!(f, "{to} = ct {key:?}"),
            Self::FibType { address, to } => write!(f, "{to} = fib {address:?} type"),
            Self::Dynset { map, op, key, data, timeout_ms } => {
                write!(f, "{op:?} @{map} {{ {key} : {data} }}")?;
                if *op == DynsetOp::Update { write!(f, " timeout {timeout_ms} ms") } else { Ok(()) }
            }
            Self::Dnat { address, port, .. } => write!(f, "dnat to {address} port {port}"),
            Self::Masquerade => f.write_str("masquerade fully-random"),
            Self::Reject { .. } => f.write_str("reject port-unreachable"),
            Self::RejectWithReset => f.write_str("reject tcp-reset"),
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
