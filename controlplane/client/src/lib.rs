//! How components meet the API: shared reflectors, events, leader election. All over a `kube::Client` that somebody
//! else made.
//!
//! Must not know: the API server, the store, or whether the client is in process or remote.

pub mod error;
pub mod events;
pub mod lease;
pub mod reflector;

pub use reflector::{Change, ObjectKey, Reflector, Subscription, Watched, revision_of};
