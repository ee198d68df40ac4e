//! What Pintle asks of systemd: slices and scopes, made, changed and stopped over D-Bus.
//!
//! D-Bus is written here by hand (`wire`, `message`: pure), since only five calls of it are needed, and from processes of
//! one thread too. Every call blocks, for a bounded time.
//! Must not know: pods, containers, what a cgroup is for.

mod connection;
#[cfg(test)]
mod connection_tests;
mod manager;
mod message;
#[cfg(test)]
mod message_tests;
pub mod names;
mod property;
mod wire;

use std::path::Path;
use std::time::Duration;

pub use manager::Systemd;
pub use property::{Property, Value, from_cgroup_files, round_quotas};

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("systemd does not run on this machine: it has no /run/systemd/system")]
    NotRunning,
    #[error("cannot reach systemd at {path}")]
    Unreachable { path: String, source: std::io::Error },
    #[error("systemd refused {member}: {text} ({name})")]
    Refused { member: &'static str, name: String, text: String },
    #[error("systemd's job for {unit} ended as {result:?}")]
    Job { unit: String, result: String },
    #[error("systemd did not answer within {0:?}")]
    Late(Duration),
    #[error("the connection to systemd broke")]
    Broken(#[source] std::io::Error),
    #[error("systemd sent what is no D-Bus message: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// Whether it is one of systemd's refusals of this name, without `org.freedesktop.systemd1.`.
    pub fn is(&self, refusal: &str) -> bool {
        matches!(self, Error::Refused { name, .. }
            if name.strip_prefix("org.freedesktop.systemd1.").is_some_and(|short| short == refusal))
    }
}

/// Whether the one hierarchy of cgroup v2 is all that systemd uses. On a hybrid machine it is not.
pub fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether systemd is this machine's init. Source: sd_booted(3).
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
