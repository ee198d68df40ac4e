//! A request that cannot be made into a bundle.
//!
//! Must not know: gRPC; a caller answers `InvalidArgument` with the text.

use thiserror::Error;

/// Which field of the request cannot be honoured, and why. Fields are written as CRI names them
/// (`linux.security_context.run_as_group`); reasons are containerd's where it has one, so that what reads them (the
/// kubelet looks for `RROUnsupported`) finds them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct Invalid {
    pub field: String,
    pub reason: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}
