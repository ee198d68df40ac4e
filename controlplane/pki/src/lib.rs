//! Authorities, certificates, service-account tokens and kubeconfig files; and TLS where there is nothing to check.
//!
//! Must not know: who is allowed what; any object of the API.

pub mod authority;
pub mod files;
pub mod kubeconfig;
pub mod request;
pub mod tokens;
mod trusting;
mod unverified;

pub use authority::{Authority, Leaf, Pair, Usage};
pub use tokens::{Claims, TokenKey};
pub use trusting::{trusting, trusting_as};
pub use unverified::{unverified, unverified_as};
