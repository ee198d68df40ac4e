//! The embedded CRI runtime: sandboxes and containers on a bare machine.
//!
//! A call is decided in `plan`, done through `drivers`, written down in `state` and told in `events`. What runs
//! outlives this process: the monitor of each sandbox holds it, and the next start takes it over (`recover`).
//! Must not know: pods as the API server has them, the kubelet.

mod clock;
mod config;
mod container;
mod drivers;
mod error;
mod events;
mod memory;
mod plan;
mod recover;
mod runtime;
mod sandbox;
mod service;
mod state;
mod stats;
mod streaming;

pub use config::{Config, DEFAULT_HANDLER};
pub use runtime::Runtime;
