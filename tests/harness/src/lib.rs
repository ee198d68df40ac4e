//! What end-to-end tests stand on: a registry on loopback, small images in it made from Debian packages, and
//! a server for gRPC probes.
//!
//! Must not know: Pintle's components; tests start those.

pub mod health;
pub mod images;
mod registry;

pub use registry::Registry;
