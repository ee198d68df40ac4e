//! Seeing: what the runtime has of a pod, and when to look again.
//!
//! Must not know: what is decided from it.

pub mod events;
mod message;
pub mod pod;
