//! What the runtime knows: records in memory, each of them on disk first.
//!
//! Must not know: how sandboxes and containers are made, or gRPC.

mod disk;
mod record;
mod removal;
mod table;

pub use record::{Container, Record, Sandbox, VERSION};
pub use table::{Entry, Table, Unknown};
