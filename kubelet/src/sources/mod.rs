//! Where pods come from: the API, files on the node.
//!
//! Must not know: what becomes of them.

pub mod files;
pub mod manifest;
