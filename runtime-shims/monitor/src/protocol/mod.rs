//! What a runtime and a monitor say to each other: one message per packet of a unix socket (`SOCK_SEQPACKET`).
//!
//! A client's first request is [`Request::Hello`] with the versions that it speaks; the monitor answers with the newest
//! that both do. Each request carries a number, which its replies repeat; number 0 is an event's. Descriptors travel
//! beside the request that needs them (`SCM_RIGHTS`). A monitor outlives upgrades of the runtime, so what a version says
//! never changes: a new field is a new version, and the runtime goes on speaking the older ones.
//! Must not know: sockets and processes. Shared by both ends, so it needs no more than `alloc`.

mod reply;
mod request;
mod wire;

pub use self::reply::{Body, Exit, Kind, Refusal, Reply, State, Status};
pub use self::request::{Keep, Request, Run, Stdio, Streams};
pub use self::wire::Malformed;

/// The version that this source speaks, and the only one yet.
pub const VERSION: u16 = 1;
/// No message is longer.
pub const LARGEST: usize = 64 * 1024;
/// The socket's name in a sandbox's directory.
pub const SOCKET: &str = "monitor.sock";
/// An argument of [`Run::argv`] that stands for the socket on which the monitor expects the terminal.
pub const CONSOLE_SOCKET: &str = "{console-socket}";
/// An id is not empty and no longer than this.
pub const LONGEST_ID: usize = 256;
