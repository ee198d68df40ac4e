//! Tables' contents as values: chains, rules, sets, elements.
//!
//! Must not know: how they are sent.

use super::expression::{Expr, Verdict};

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// Of an address, in bytes.
    pub fn address_length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Upstream's name for it, as in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl HookKind {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// Where a base chain is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub chain_type: &'static str,
    pub kind: HookKind,
    pub priority: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Why; kept in the kernel as the rule's comment.
    pub comment: &'static str,
    pub expressions: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// None for a chain that others jump to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// The type of one field of a key or value; the kernel only keeps the length, `nft` prints by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Address(Family),
    Protocol,
    Port,
    /// A host-order 32-bit number.
    Number,
}

impl Type {
    /// The value's own bytes.
    pub fn length(self) -> u32 {
        match self {
            Self::Address(family) => family.address_length(),
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Number => 4,
        }
    }

    /// In registers and concatenations every field is padded to 4 bytes.
    pub fn padded(self) -> u32 {
        self.length().next_multiple_of(4)
    }

    /// The number `nft` knows the type by.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Address(Family::V4) => 7,
            Self::Address(Family::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Number => 19,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKind {
    Set,
    /// Elements are ranges, from an element's key to its `end`.
    Ranges,
    /// Values by key.
    Map(Vec<Type>),
    /// Verdicts by key.
    VerdictMap,
    /// Values by key that rules add and that expire; at most `size` of them.
    Dynamic {
        data: Vec<Type>,
        size: u32,
    },
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: &'static str,
    pub key: Vec<Type>,
    pub kind: SetKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ElementData {
    None,
    Value(Vec<u8>),
    Verdict(Verdict),
    /// The last key of a range of concatenated fields; also of a range of single ones, where the kernel wants the key
    /// behind the last as an element of its own.
    RangeEnd(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    pub key: Vec<u8>,
    pub data: ElementData,
}
