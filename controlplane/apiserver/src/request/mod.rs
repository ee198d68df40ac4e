//! A request as data: which verb on which resource, with which options and which body.
//!
//! Must not know: how it is carried out.

pub mod decode;
pub mod info;
pub mod query;
pub mod twice;

pub use info::RequestInfo;
pub use query::{DeleteOptions, FieldValidation, ListOptions, Query, WriteOptions};
