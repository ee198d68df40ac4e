//! Who asks (authentication) and whether they may (authorization).
//!
//! Must not know: what a request does once it is let in.

pub mod attributes;
pub mod user;

pub use attributes::Attributes;
pub use user::UserInfo;
