//! What every long-running part needs and no part owns: shutdown, telemetry, the metrics registry, back-off.
//!
//! Must not know: Kubernetes.

pub mod backoff;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
