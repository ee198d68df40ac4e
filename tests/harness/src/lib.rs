//! What end-to-end tests stand on: a registry on loopback, and small images in it made from Debian packages.
//!
//! Must not know: Pintle's components; tests start those.

pub mod images;
mod registry;

pub use registry::Registry;
