//! Serving CRI on a unix socket.
//!
//! Must not know: what is served.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Probe;
use std::path::Path;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use crate::deadlines::Deadlines;

/// Serves until told to stop. The socket is root's alone; one that nobody listens on any more is replaced.
///
/// # Errors
/// Another runtime listens there, or the socket cannot be made.
pub async fn serve(
    routes: tonic::service::Routes,
    socket: &Path,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let listener = bind(socket)?;
    let serving = tonic::transport::Server::builder()
        .layer(Deadlines)
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop);
    serving.await.with_context(|| format!("serving {}", socket.display()))
}

fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("listening on {}", socket.display());
    if let Some(dir) = socket.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    anyhow::ensure!(Probe::connect(socket).is_err(), "another runtime listens on {}", socket.display());
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(what)?;
    // whoever connects is root on this machine
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660)).with_context(what)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("new/runtime.sock");
        drop(bind(&socket).unwrap());
        let held = bind(&socket).unwrap();
        let error = bind(&socket).unwrap_err().to_string();
        assert!(error.starts_with("another runtime listens on"), "{error}");
        drop(held);
    }
}
