//! PURE: from the model of Services to what the kernel's tables hold, and the difference between two such states.
//!
//! The chains are constant (`chains`); a Service is elements of sets and maps (`element`). Must not know: netlink, time.

pub mod chains;
pub mod codec;
pub mod conntrack;
pub mod diff;
pub mod element;
pub mod service;
#[cfg(test)]
mod service_tests;
pub mod sets;
