//! Why a call was not done, each kind with the gRPC code that a kubelet expects.
//!
//! Must not know: the calls.

use tonic::{Code, Status};

use crate::state::Unknown;

/// What a call answers instead of its result. The text is for people and carries the whole chain of causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Exists(String),
    /// It could be done in another state of the sandbox or container.
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Deadline(String),
    #[error("{0}")]
    Exhausted(String),
    #[error("{0}")]
    Unimplemented(String),
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A sandbox's monitor was killed.
    pub fn is_gone_monitor(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        matches!(error.downcast_ref(), Some(pintle_monitor::Error::Gone(_)))
    }

    /// As the cause of another error, which says its chain once.
    pub fn into_cause(self) -> anyhow::Error {
        match self {
            Self::Failed(error) => error,
            other => other.into(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Deadline(_) => Code::DeadlineExceeded,
            Self::Exhausted(_) => Code::ResourceExhausted,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Failed(error) if is_full_disk(error) => Code::ResourceExhausted,
            // upstream's runtimes answer so too: clients look at the text
            Self::Failed(_) => Code::Unknown,
        }
    }
}

fn is_full_disk(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_system = cause.downcast_ref::<nix::errno::Errno>().map(|errno| std::io::Error::from(*errno).kind());
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(of_system);
        matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    })
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.to_string())
    }
}

impl From<Unknown> for Error {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Missing(_) => Self::NotFound(unknown.to_string()),
            Unknown::Ambiguous(_) => Self::Invalid(unknown.to_string()),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Self::Exists(error.to_string()),
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<pintle_bundle::Invalid> for Error {
    fn from(invalid: pintle_bundle::Invalid) -> Self {
        Self::Invalid(invalid.to_string())
    }
}

impl From<pintle_monitor::Error> for Error {
    fn from(error: pintle_monitor::Error) -> Self {
        match error {
            pintle_monitor::Error::NotRunning(_) => Self::Precondition(error.to_string()),
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<pintle_images::Error> for Error {
    fn from(error: pintle_images::Error) -> Self {
        use pintle_images::ErrorKind as Kind;
        let text = error.to_string();
        match error.kind() {
            Kind::InvalidReference => Self::Invalid(text),
            Kind::NotFound => Self::NotFound(text),
            // containerd's code for content that is not what its digest says
            Kind::InUse | Kind::Corrupt | Kind::Refused => Self::Precondition(text),
            Kind::Unsupported => Self::Unimplemented(text),
            Kind::NoSpace => Self::Exhausted(text),
            _ => Self::Failed(anyhow::Error::msg(text)),
        }
    }
}
