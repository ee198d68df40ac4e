//! Images: pulled, verified, unpacked once, shared.
//!
//! Must not know: containers, sandboxes, CRI.
