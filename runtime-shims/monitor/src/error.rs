//! What goes wrong between a runtime and a monitor.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::protocol::{Kind, Refusal};

#[derive(Debug, Error)]
pub enum Error {
    /// There is no socket: no monitor was started here, or it was told to end.
    #[error("there is no monitor in {}", .0.display())]
    Absent(PathBuf),
    /// It was killed: what it was the parent of is init's now, and its outputs and exit codes are lost.
    #[error("the monitor in {} is gone", .0.display())]
    Gone(PathBuf),
    /// One is there already.
    #[error("a monitor serves {} already", .0.display())]
    Serves(PathBuf),
    #[error("the monitor in {} does not answer", .0.display())]
    Silent(PathBuf),
    #[error("the monitor does not start: {0}")]
    Start(String),
    #[error("cannot {what}")]
    Io { what: String, source: io::Error },
    /// A message would be longer than [`crate::protocol::LARGEST`].
    #[error("the command line and environment of {0:?} are too long")]
    TooLong(String),
    #[error("the monitor speaks version {0} of its protocol, which this runtime does not")]
    Version(i32),
    #[error("there is no process {0:?}")]
    NotFound(String),
    #[error("there is a process {0:?} already")]
    Exists(String),
    /// The process does not run any more, has no such stream, or no terminal.
    #[error("process {0:?} does not run, or has no such stream")]
    NotRunning(String),
    #[error("still in use: {0}")]
    Busy(String),
    /// A command line left no process.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// One of the two ends does not keep to the protocol.
    #[error("the monitor understood no request: {0}")]
    Protocol(String),
}

/// Why a command line left no process.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{}", if *.timed_out { "it took too long and was killed: " } else { "" }, describe(*.code, .text))]
pub struct Failure {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// The end of what it wrote to its standard error, or what is missing.
    pub text: String,
    pub timed_out: bool,
}

fn describe(code: i32, text: &str) -> String {
    if text.is_empty() { format!("it ended with code {code}") } else { text.to_owned() }
}

impl From<Refusal> for Error {
    fn from(Refusal { kind, code, text }: Refusal) -> Self {
        match kind {
            Kind::Malformed => Error::Protocol(text),
            Kind::Version => Error::Version(code),
            Kind::NotFound => Error::NotFound(text),
            Kind::Exists => Error::Exists(text),
            Kind::NotRunning => Error::NotRunning(text),
            Kind::Busy => Error::Busy(text),
            Kind::System => Error::Io { what: text, source: io::Error::from_raw_os_error(code) },
            Kind::Failed => Failure { code, text, timed_out: false }.into(),
            Kind::TimedOut => Failure { code, text, timed_out: true }.into(),
        }
    }
}

/// An error of the system as this crate's, with what was tried.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}
