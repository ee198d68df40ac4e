//! Netlink messages and the socket they travel on, for the netfilter subsystems (nf_tables and conntrack).
//!
//! Written straight into one buffer: a batch of ten thousand Services is one allocation and one `send`.
//! Must not know: Services.

mod socket;
pub mod wire;

pub use socket::{KernelError, Socket};
