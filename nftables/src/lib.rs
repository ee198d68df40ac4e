//! nf_tables in the kernel's own terms: tables, chains, rules of expressions, sets and maps, and batches of changes.
//!
//! netlink-packet-netfilter has the basic messages only (no nat, masquerade, numgen, fib, ct, reject, dynset,
//! concatenations, verdict maps or batches), so the messages are written here, straight into the batch's buffer.
//! Must not know: Services, pods, and what a rule is for.

mod batch;
pub mod conntrack;
mod expression;
pub mod forwarding;
pub mod netlink;
mod object;
mod read;

pub use batch::{Batch, plain_range_keys};
pub use expression::{Cmp, CtKey, DynsetOp, Expr, FibAddress, MetaKey, PayloadBase, Register, Verdict};
pub use object::{Chain, Element, ElementData, Family, Hook, HookKind, Rule, Set, SetKind, Type};
pub use read::{RawElement, chain_policy, elements, generation, table_comment};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;

/// `enum nf_tables_msg_types`.
mod message {
    pub const NEW_TABLE: u16 = 0;
    pub const GET_TABLE: u16 = 1;
    pub const DELETE_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const NEW_RULE: u16 = 6;
    pub const NEW_SET: u16 = 9;
    pub const NEW_ELEMENT: u16 = 12;
    pub const GET_ELEMENT: u16 = 13;
    pub const DELETE_ELEMENT: u16 = 14;
    pub const GET_GENERATION: u16 = 16;
}
