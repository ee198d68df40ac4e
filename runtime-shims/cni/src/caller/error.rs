//! Why a pod could not be attached, detached or checked.
//!
//! Must not know: what the caller does about it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no usable configuration (yet). The text is the one that users of containerd know.
    #[error("cni plugin not initialized: {0}")]
    NotInitialized(String),
    #[error("broken network configuration: {0}")]
    Configuration(String),
    #[error("failed to find plugin {plugin:?} in path {path:?}")]
    NoPlugin { plugin: String, path: Vec<PathBuf> },
    /// What the plugin itself said.
    #[error("plugin type={plugin:?} failed ({command}): {error}")]
    Refused { plugin: String, command: &'static str, error: PluginError },
    #[error("plugin type={plugin:?} failed ({command}): it did not end within {within:?}")]
    TimedOut { plugin: String, command: &'static str, within: Duration },
    /// It could not be run, or broke down.
    #[error("plugin type={plugin:?} failed ({command}): {why}")]
    Broken { plugin: String, command: &'static str, why: String },
    #[error("cannot keep the results of the pod network at {path}: {error}")]
    Kept { path: PathBuf, error: std::io::Error },
    #[error("the pod {0} is not attached")]
    NotAttached(String),
    #[error("the call broke down")]
    Lost,
}

/// CNI's error document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PluginError {
    /// Below 100 CNI's own, such as 11 (try again later) and 50 (not available).
    pub code: u32,
    pub msg: String,
    pub details: String,
}

impl std::fmt::Display for PluginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        write!(f, " (code {})", self.code)
    }
}

impl CallError {
    /// The plugin's code, where a plugin said why.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { error, .. } => Some(error.code),
            _ => None,
        }
    }
}
