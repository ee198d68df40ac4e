//! The store against real registries, hostile ones, and archives.
//!
//! Must not know: the crate's inside.

mod archives;
mod images;
mod pulling;
mod registry;
