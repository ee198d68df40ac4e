//! Containers' logs on disk: read for `kubectl logs`, rotated by size.
//!
//! Must not know: HTTP.

pub mod read;
pub mod rotate;
