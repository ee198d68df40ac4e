//! The store against real registries, hostile ones, and archives.
//!
//! Must not know: the crate's inside.

mod archives;
mod faults;
mod hostile;
mod images;
mod inheriting;
mod keeping;
mod pulling;
mod registry;
mod server;
