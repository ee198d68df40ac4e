//! Authorities, certificates, service-account tokens and kubeconfig files.
//!
//! Must not know: who is allowed what; any object of the API.

pub mod authority;
pub mod files;
pub mod kubeconfig;
pub mod request;
pub mod tokens;

pub use authority::{Authority, Leaf, Pair, Usage};
pub use tokens::{Claims, TokenKey};
