//! What every long-running part needs and no part owns: shutdown, telemetry, the metrics registry, back-off, relaying bytes,
//! opening below a folder, removing trees.
//!
//! Must not know: Kubernetes.

pub mod backoff;
pub mod inside;
pub mod metrics;
pub mod relay;
pub mod shutdown;
pub mod telemetry;
pub mod tree;
