//! Connections: TLS, HTTP/1.1 and HTTP/2, bounded, and drained when the server stops.
//!
//! Must not know: what is asked over them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::authenticator::from_certificate;
use crate::body::request_body;
use crate::handler::{PeerAddress, PeerUser};
use crate::server::ApiServer;

/// How long a client may take over its handshake, and over the headers of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long connections may take to finish what they are at when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// How long to wait after the process has run out of what connections are made of.
const BREATHE: Duration = Duration::from_millis(100);

impl ApiServer {
    /// Serves until `cancel`; then lets requests in progress finish, within bounds.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        cancel: CancellationToken,
    ) -> anyhow::Result<()> {
        let acceptor = TlsAcceptor::from(tls);
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let connections = TaskTracker::new();
        loop {
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place?,
                () = cancel.cancelled() => break,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = cancel.cancelled() => break,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (server, acceptor, cancel) = (self.clone(), acceptor.clone(), cancel.clone());
                    connections.spawn(async move {
                        let _place = place;
                        server.connection(stream, PeerAddress(from.ip()), acceptor, cancel).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(BREATHE).await;
                }
            }
        }
        connections.close();
        if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
            tracing::info!("some connections did not finish in time");
        }
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: PeerAddress,
        acceptor: TlsAcceptor,
        cancel: CancellationToken,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "setting TCP_NODELAY");
        }
        let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
        let peer = leaf.map(|leaf| PeerUser(Arc::new(from_certificate(leaf))));
        self.speak(stream, peer, address, cancel).await;
    }

    /// HTTP over a connection that is ready for it.
    async fn speak<S>(
        self: Arc<Self>,
        stream: S,
        peer: Option<PeerUser>,
        address: PeerAddress,
        cancel: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (server, peer) = (self.clone(), peer.clone());
            async move {
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                request.extensions_mut().insert(address);
                Ok::<_, Infallible>(server.handle(request.map(request_body)).await)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(250)
            .keep_alive_interval(Duration::from_secs(30));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
