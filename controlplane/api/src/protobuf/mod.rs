//! `application/vnd.kubernetes.protobuf`, both ways, from the facts.
//!
//! The bytes of an object are an envelope (`runtime.Unknown` behind four magic bytes) around the message itself. What
//! goes in and comes out as JSON is in canonical form.
//!
//! Must not know: HTTP, or which kinds are served.

mod decode;
mod encode;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, decode, decode_as, decode_message};
pub use encode::{encode, encode_message, envelope, list, watch_event};

/// What every object in this encoding begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";
