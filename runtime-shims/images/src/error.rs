//! What goes wrong with images, in kinds that a CRI server turns into gRPC codes.
//!
//! Must not know: gRPC.

use std::fmt;
use std::io;

use nix::libc;

/// Why it failed, for a program; the text says it to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The name of the image cannot be parsed.
    InvalidReference,
    /// Neither the registry nor the store has it.
    NotFound,
    /// The registry wants other credentials, or any.
    Unauthorized,
    /// The registry cannot be reached or fails; worth trying again later.
    Unavailable,
    /// Schema 1, a media type or an algorithm that is not supported; no image for this platform is `NotFound`.
    Unsupported,
    /// Content that is not what its digest says, or no valid manifest, archive or layer.
    Corrupt,
    /// A layer that tries to leave its root or to exceed the limits.
    Refused,
    /// The disk is full.
    NoSpace,
    /// It is held by a container.
    InUse,
    /// Anything else: permissions, I/O errors.
    Internal,
}

/// An error with its kind. `Display` prints the whole chain, outermost first, joined as containerd does.
pub struct Error {
    kind: ErrorKind,
    cause: anyhow::Error,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: ErrorKind, text: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { kind, cause: anyhow::Error::msg(text) }
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same failure, with what was being done before it.
    #[must_use]
    pub fn context(self, text: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { kind: self.kind, cause: self.cause.context(text) }
    }

    pub(crate) fn io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => Self { kind: kind_of(&error), cause: error.into() },
        }
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => ErrorKind::NoSpace,
        _ => ErrorKind::Internal,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:#}", self.kind, self.cause)
    }
}

impl std::error::Error for Error {}

/// An error of ours may travel through `Read` and `Write`, and comes out with its kind.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Context for results of the system and of ours.
pub(crate) trait Context<T> {
    fn context<D: fmt::Display + Send + Sync + 'static>(self, text: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context<D: fmt::Display + Send + Sync + 'static>(self, text: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::io(error).context(text()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context<D: fmt::Display + Send + Sync + 'static>(self, text: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::io(error.into()).context(text()))
    }
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display + Send + Sync + 'static>(self, text: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.context(text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_printed_once_and_the_kind_survives() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        let error: Result<()> = Err(full).context(|| "cannot write a");
        let error = error.context(|| "pull").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert_eq!(error.to_string(), "pull: cannot write a: No space left on device (os error 28)");
        assert_eq!(Error::io(error.into()).kind(), ErrorKind::NoSpace);
    }
}
