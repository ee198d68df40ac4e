//! Everything that makes a Service work on a node: packet rules and names, from one model.
//!
//! Watch → model → elements → difference → one kernel transaction; the same model answers DNS.
//! Must not know: the API server, the store, the kubelet.

pub mod backend;
mod config;
pub mod dns;
mod health;
mod host;
mod metrics;
pub mod model;
pub mod plan;
mod range;
mod run;
pub mod syncer;
mod watch;

pub use config::{Config, KubeProxyConfiguration};
pub use range::parse_range;
pub use run::{cleanup, run};
