//! The protocols behind exec, attach and port-forward: WebSocket channels, SPDY/3.1, and the bridge between them.
//!
//! Must not know: the kubelet's routes, authentication, or which runtime serves the other end.

pub mod bridge;
mod command;
mod ports;
pub mod server;
pub mod spdy;
mod upgrade;
mod websocket;
