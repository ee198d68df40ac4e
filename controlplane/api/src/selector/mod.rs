//! Label selectors and field selectors: parsing, matching, and the errors of upstream.
//!
//! Must not know: any kind.

pub mod fields;
pub mod labels;
mod lexer;

pub use fields::FieldSelector;
pub use labels::LabelSelector;
