//! The API server: request → authentication → authorization → admission → store → watch cache → watchers.
//!
//! Must not know: the kubelet, the proxy, the scheduler, the controllers; how the store keeps what it is given.

pub mod auth;
pub mod cache;
