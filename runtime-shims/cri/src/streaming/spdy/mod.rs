//! SPDY/3.1, as much of it as Kubernetes' streaming speaks: streams with headers, half-close, resets, pings.
//!
//! No flow control frames: the Go peer (moby/spdystream) sends none and heeds none; back-pressure is TCP's and that of
//! bounded queues. Must not know: what the streams carry.

mod connection;
mod dictionary;
mod frame;
mod headers;
mod stream;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Incoming, Side};
pub use headers::Headers;
pub use stream::{Stream, StreamError, StreamReader, StreamWriter};
