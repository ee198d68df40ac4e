//! Who asks (authentication) and whether they may (authorization).
//!
//! Must not know: what a request does once it is let in.

pub mod attributes;
pub mod authenticator;
pub mod authorizer;
pub mod node;
pub mod rbac;
pub mod tokens;
pub mod user;

pub use attributes::Attributes;
pub use authenticator::Authenticator;
pub use authorizer::{Authorizer, forbidden};
pub use tokens::Tokens;
pub use user::UserInfo;
