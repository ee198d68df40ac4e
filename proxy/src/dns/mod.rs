//! The cluster's DNS: names and records as CoreDNS serves them (Kubernetes DNS schema 1.1), everything else forwarded to
//! the host's resolvers.
//!
//! Must not know: packet rules.

mod answer;
#[cfg(test)]
mod answer_tests;
mod forward;
mod link;
mod query;
mod server;

pub use answer::{Alias, Outcome, Zone, answer};
pub use link::{LINK, add_addresses, remove_link};
pub use server::{Settings, serve};
