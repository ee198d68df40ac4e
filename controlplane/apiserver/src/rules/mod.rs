//! What happens to any object's metadata when it is created, changed and deleted. Pure: `now` and fresh values
//! are arguments.
//!
//! Must not know: stores, requests, clocks.

pub mod delete;
pub mod traits;
pub mod write;
