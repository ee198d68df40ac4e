//! Serving on a unix socket.
//!
//! Must not know: what is served.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Probe;
use std::path::Path;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

/// Serves until told to stop.
pub async fn serve(routes: tonic::service::Routes, socket: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = bind(socket)?;
    let serving = tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned());
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
