//! Connections to the other end, and one request over each.
//!
//! Must not know: what is asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::{Target, Transport};
use crate::body::RequestBody;
use crate::server::ApiServer;

/// How long the other end may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// The other end's answer. An error says what failed in the words of Go's `net` package, which clients look for.
pub async fn send(
    server: &ApiServer,
    target: &Target,
    request: Request<RequestBody>,
) -> anyhow::Result<Response<Incoming>> {
    let stream = tcp(target).await?;
    let config = match target.transport {
        Transport::Plain => return exchange(stream, request).await,
        Transport::Unverified => pintle_pki::unverified()?,
        Transport::Kubelet => {
            let config = server.config.kubelet_tls.clone();
            config.ok_or_else(|| anyhow::anyhow!("the server has no certificate to show to kubelets"))?
        }
    };
    let name = ServerName::try_from(target.host.clone())?;
    exchange(tls(stream, config, name).await?, request).await
}

/// As [`send`], to an address that must prove to be `name` in the eyes of `config`.
pub async fn secured(
    target: &Target,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    request: Request<RequestBody>,
) -> anyhow::Result<Response<Incoming>> {
    let stream = tcp(target).await?;
    exchange(tls(stream, config, name).await?, request).await
}

async fn tls(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let connecting = TlsConnector::from(config).connect(name, stream);
    let stream =
        tokio::time::timeout(CONNECT, connecting).await.map_err(|_| anyhow::anyhow!("TLS handshake timeout"))?;
    stream.map_err(|error| anyhow::anyhow!("tls: {error}"))
}

async fn tcp(target: &Target) -> anyhow::Result<TcpStream> {
    let connecting = TcpStream::connect((target.host.as_str(), target.port()));
    let connected = tokio::time::timeout(CONNECT, connecting).await;
    let dialled = |why: &str| {
        let (host, port) = (&target.host, target.port());
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        anyhow::anyhow!("dial tcp {host}:{port}: {why}")
    };
    let stream = connected.map_err(|_| dialled("i/o timeout"))?.map_err(|error| dialled(&why(&error)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => format!("connect: {error}"),
    }
}

async fn exchange<S>(stream: S, request: Request<RequestBody>) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a relayed connection ended");
        }
    });
    Ok(sender.send_request(request).await?)
}
