//! Errors in CNI's own form: a code that runtimes act on, a message, details.
//!
//! Must not know: what was attempted.

use std::fmt::Display;

use serde_json::json;

/// Codes below 100 are CNI's; from 100 on a plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    IncompatibleVersion = 1,
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decoding = 6,
    InvalidConfig = 7,
    NotAvailable = 50,
    Network = 100,
    NoAddress = 101,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    pub code: Code,
    pub message: String,
    pub details: String,
}

pub type Result<T> = std::result::Result<T, CniError>;

impl CniError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// The document a plugin prints.
    pub fn document(&self, version: &str) -> String {
        let Self { code, message, details } = self;
        json!({ "cniVersion": version, "code": *code as u32, "msg": message, "details": details }).to_string()
    }
}

impl Display for CniError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.message, self.details)
    }
}

impl std::error::Error for CniError {}

/// Says what was attempted when something failed.
pub trait Context<T> {
    fn context(self, code: Code, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, code: Code, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| CniError { code, message: attempt(), details: cause.to_string() })
    }
}
