//! Connecting to a runtime: one socket, both services, the version checked, errors that say what to do.
//!
//! Must not know: what the runtime is used for.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tonic::{Code, Status};

use crate::channel::{Channel, socket_transport};
use crate::known::{self, Known};
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::{VersionRequest, VersionResponse};
use crate::{ImageClient, RuntimeClient};

/// Upstream's limit on one message, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The version that a kubelet asks for and a runtime must answer (upstream's `kubeRuntimeAPIVersion`).
const KUBE_RUNTIME_API_VERSION: &str = "0.1.0";

/// Why there is no connection to the runtime.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{0:?} is not a runtime endpoint: give unix:///path/to/socket or an absolute path")]
    Endpoint(String),
    #[error("there is no socket at {path}: is the container runtime running?{}", known::told(.others))]
    Missing { path: PathBuf, others: Vec<&'static Known> },
    #[error("{0} is not a socket")]
    NotASocket(PathBuf),
    #[error("cannot connect to the container runtime at {path}")]
    Refused { path: PathBuf, source: tonic::transport::Error },
    #[error(
        "the program at {endpoint} serves no CRI v1: containerd's CRI plugin is off (remove \"cri\" from disabled_plugins in \
         /etc/containerd/config.toml and restart it), or the runtime is too old ({} have CRI v1)",
        known::first_releases()
    )]
    NoCri { endpoint: String },
    #[error("the runtime at {endpoint} speaks runtime API version {version:?}, {KUBE_RUNTIME_API_VERSION:?} is needed")]
    Version { endpoint: String, version: String },
    #[error("the runtime at {endpoint} did not tell its version: {}", .status.message())]
    Unanswered { endpoint: String, status: Box<Status> },
}

/// A runtime that answered. Clones share the connection; every client method takes `&mut`, so clone the client you call.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub runtime: RuntimeClient,
    pub images: ImageClient,
    /// What it said of itself: `runtime_name` (`containerd`), `runtime_version`, `runtime_api_version` (`v1`).
    pub version: VersionResponse,
    /// The same socket without the CRI in front, where containerd serves its native API; `None` in process.
    pub(crate) native: Option<tonic::transport::Channel>,
}

/// Connects to a runtime's socket: `unix:///run/containerd/containerd.sock`, or the path alone.
/// Lost connections are made again by themselves, at the next call.
///
/// # Errors
/// [`ConnectError`] (inside): no such socket, refused, no CRI there, another version.
pub async fn connect(endpoint: &str) -> anyhow::Result<Runtime> {
    let path = socket_path(endpoint)?;
    check_socket(&path)?;
    let transport =
        socket_transport(&path).await.map_err(|source| ConnectError::Refused { path: path.clone(), source })?;
    let endpoint = path.display().to_string();
    Ok(Runtime::introduce(Channel::over(transport.clone()), Some(transport), &endpoint).await?)
}

impl Runtime {
    /// A runtime behind any channel, such as one in this process.
    ///
    /// # Errors
    /// [`ConnectError`] when it serves no CRI or another version.
    pub async fn over(channel: Channel) -> anyhow::Result<Runtime> {
        Ok(Self::introduce(channel, None, "this process").await?)
    }

    async fn introduce(
        channel: Channel,
        native: Option<tonic::transport::Channel>,
        endpoint: &str,
    ) -> Result<Runtime, ConnectError> {
        let mut runtime = RuntimeServiceClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let images = ImageServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let request = VersionRequest { version: KUBE_RUNTIME_API_VERSION.into() };
        let version = runtime.version(request).await.map_err(|status| unanswered(endpoint, status))?.into_inner();
        check_version(endpoint, &version)?;
        Ok(Runtime { runtime, images, version, native })
    }
}

fn unanswered(endpoint: &str, status: Status) -> ConnectError {
    match status.code() {
        Code::Unimplemented => ConnectError::NoCri { endpoint: endpoint.to_owned() },
        _ => ConnectError::Unanswered { endpoint: endpoint.to_owned(), status: Box::new(status) },
    }
}

fn check_version(endpoint: &str, answer: &VersionResponse) -> Result<(), ConnectError> {
    if answer.version == KUBE_RUNTIME_API_VERSION {
        return Ok(());
    }
    Err(ConnectError::Version { endpoint: endpoint.to_owned(), version: answer.version.clone() })
}

/// `unix:///run/x.sock`, `unix:/run/x.sock` or `/run/x.sock` → the path.
fn socket_path(endpoint: &str) -> Result<PathBuf, ConnectError> {
    let rest = endpoint.strip_prefix("unix:").unwrap_or(endpoint);
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with('/') { Ok(PathBuf::from(path)) } else { Err(ConnectError::Endpoint(endpoint.to_owned())) }
}

fn check_socket(path: &Path) -> Result<(), ConnectError> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(ConnectError::NotASocket(path.to_path_buf())),
        Err(_) => Err(ConnectError::Missing { path: path.to_path_buf(), others: known::found() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_unix_urls_or_absolute_paths() {
        for endpoint in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
            assert_eq!(socket_path(endpoint).unwrap(), Path::new("/run/x.sock"), "{endpoint}");
        }
        for endpoint in ["", "x.sock", "tcp://127.0.0.1:1", "unix://relative"] {
            assert!(matches!(socket_path(endpoint), Err(ConnectError::Endpoint(_))), "{endpoint}");
        }
    }

    #[tokio::test]
    async fn a_missing_socket_and_a_plain_file_are_told_apart() {
        let missing = connect("/nowhere/at/all.sock").await.unwrap_err();
        assert!(missing.to_string().contains("no socket at /nowhere/at/all.sock"), "{missing}");
        let file = std::env::current_exe().unwrap();
        let plain = connect(file.to_str().unwrap()).await.unwrap_err();
        assert!(plain.to_string().contains("is not a socket"), "{plain}");
    }
}
