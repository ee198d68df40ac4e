//! Everything that makes a Service work on a node: packet rules and names, from one model.
//!
//! Watch → model → elements → difference → one kernel transaction; the same model answers DNS.
//! Must not know: the API server, the store, the kubelet.

pub mod backend;
pub mod model;
pub mod netlink;
pub mod nft;
pub mod plan;
mod range;
pub mod syncer;

pub use range::parse_range;
