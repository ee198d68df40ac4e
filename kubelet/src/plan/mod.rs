//! Deciding: a pod's spec and what was seen of it, to actions, CRI configurations and a status. All of it pure.
//!
//! Must not know: tokio, files, sockets, clocks (`now` is an argument), who calls the runtime or the API.

pub mod actions;
pub mod admission;
pub mod apparmor;
pub mod container_config;
pub mod dns;
pub mod environment;
pub mod expand;
pub mod hosts;
pub mod init;
pub mod pod;
pub mod probing;
pub mod qos;
pub mod quantity;
pub mod resize;
pub mod resources;
pub mod restart;
pub mod retained;
pub mod sandbox_config;
pub mod security;
pub mod seen;
pub mod status;
#[cfg(test)]
mod testing;
