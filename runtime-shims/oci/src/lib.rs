//! The embedded CRI runtime: sandboxes and containers on a bare machine.
//!
//! Must not know: pods as the API server has them, the kubelet.
