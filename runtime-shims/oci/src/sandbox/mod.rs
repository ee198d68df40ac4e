//! Pod sandboxes: made, stopped, removed.
//!
//! Must not know: containers' insides, gRPC.

pub mod files;
mod make;
mod pause;
mod remove;
mod stop;
pub mod watch;

pub use make::{run, undo};
pub use pause::paths;
pub use remove::remove;
pub use stop::stop;
