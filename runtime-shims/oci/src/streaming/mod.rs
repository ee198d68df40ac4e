//! Exec, attach and port-forward: URLs with tokens, and the server behind them.
//!
//! Must not know: who connects (the kubelet, on this machine), or how CRI asked.

pub mod ask;
mod command;
mod ports;
mod server;
mod tokens;

pub use command::Command;
pub use ports::PortForward;
pub use server::{Request, Streaming};
