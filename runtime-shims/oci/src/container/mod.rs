//! Containers: created, started, stopped, removed, entered.
//!
//! Must not know: how sandboxes are made, gRPC.

pub mod bundle;
pub mod checkpoint;
mod commands;
mod create;
mod exec;
mod exit;
mod remove;
pub mod session;
mod start;
mod stop;
mod update;

pub use commands::Commands;
pub use create::create;
pub use exec::exec_sync;
pub use exit::exited;
pub use remove::{discard, remove};
pub use start::{ended_start, finish_start, start};
pub use stop::stop;
pub use update::{reopen_log, update};
