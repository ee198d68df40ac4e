//! The containers' parent: a tiny static program, one for each pod sandbox, and the client that speaks with it.
//!
//! The monitor runs the command lines of an OCI runtime, becomes the parent of the processes that they leave behind,
//! holds their standard streams, writes their logs in the CRI's format, and records how they ended: on disk first, then
//! to every client. It outlives its clients: whoever connects later finds every process and every exit code.
//! Must not know: CRI, OCI, images, networks.

extern crate alloc;

mod connection;
mod error;
mod exit;
mod monitor;
mod program;
pub mod protocol;
mod run;

pub use self::error::{Error, Failure};
pub use self::exit::{Exited, Exits, read_exit_file};
pub use self::monitor::Monitor;
pub use self::program::PROGRAM;
pub use self::protocol::{CONSOLE_SOCKET, Exit, SOCKET, State, Status};
pub use self::run::{Attach, Keep, Run, Started, Stdio};
