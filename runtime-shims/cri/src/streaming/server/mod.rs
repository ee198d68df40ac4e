//! A runtime's streaming server: URLs with tokens, and one HTTP listener that serves what a token was issued for.
//!
//! Must not know: which runtime it is, who connects (the kubelet, on this machine).

mod command;
mod forward;
mod tokens;

pub use command::{Begin, Begun, Ends, Near, Process, pipes};
pub use forward::{Sockets, socket};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::bridge::{self, Session, Streams};
use tokens::Tokens;

/// Sessions at once; more clients wait to be accepted.
const MOST_SESSIONS: usize = 1024;

/// What a URL leads to.
enum Request {
    Command(Streams, Begin),
    Forward(Vec<u16>, Sockets),
}

/// Issues URLs, and serves who comes with them. Sessions that began go on when it ends.
pub struct Server {
    address: SocketAddr,
    tokens: Arc<Tokens<Request>>,
    listening: JoinHandle<()>,
}

impl Server {
    /// Listens, and serves until told to stop or dropped.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(at: SocketAddr, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(at).await.with_context(|| format!("listening on {at} for streaming sessions"))?;
        let address = listener.local_addr().context("asking for the streaming address")?;
        let tokens = Arc::<Tokens<Request>>::default();
        let serving = tokens.clone();
        let listening = tokio::spawn(async move {
            tokio::select! { () = accept(listener, serving) => {}, () = stop => {} }
        });
        Ok(Self { address, tokens, listening })
    }

    /// A URL at which a process is begun, or joined, once; `None` while too many wait.
    pub fn command(&self, wanted: Streams, begin: Begin) -> Option<String> {
        self.url("command", Request::Command(wanted, begin))
    }

    /// A URL at which ports are reached, once; any where none are named.
    pub fn forward(&self, ports: Vec<u16>, sockets: Sockets) -> Option<String> {
        self.url("portforward", Request::Forward(ports, sockets))
    }

    fn url(&self, kind: &str, request: Request) -> Option<String> {
        let token = self.tokens.issue(request, Instant::now())?;
        Some(format!("http://{}/{kind}/{token}", self.address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

async fn accept(listener: TcpListener, tokens: Arc<Tokens<Request>>) {
    let sessions = Arc::new(Semaphore::new(MOST_SESSIONS));
    loop {
        let Ok(permit) = sessions.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let tokens = tokens.clone();
                tokio::spawn(async move {
                    connection(socket, tokens).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a streaming client could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, tokens: Arc<Tokens<Request>>) {
    // keystrokes must not wait for each other; without this they only do
    let _ = socket.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let tokens = tokens.clone();
        async move { Ok::<_, Infallible>(answer(request, &tokens)) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a streaming client's connection broke");
    }
}

fn answer(request: http::Request<Incoming>, tokens: &Tokens<Request>) -> Response<Full<Bytes>> {
    let token = request.uri().path().rsplit('/').next().unwrap_or_default();
    let Some(wanted) = tokens.redeem(token, Instant::now()) else {
        let mut refusal = Response::new(Full::from("this URL is not known, was used, or is too old\n"));
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        return refusal;
    };
    let (session, protocols) = match &wanted {
        Request::Command(streams, _) => (Session::Command(*streams), command::PROTOCOLS),
        Request::Forward(ports, _) => (Session::PortForward { ports: ports.clone() }, forward::PROTOCOLS),
    };
    let local = match bridge::accept_here(request, session, protocols) {
        Ok(local) => local,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let Some((connection, incoming)) = local.streams.await else { return };
        match wanted {
            Request::Command(streams, begin) => {
                command::serve(streams, begin, connection, incoming, local.protocol).await;
            }
            Request::Forward(_, sockets) => forward::serve(sockets, connection, incoming).await,
        }
    });
    local.answer
}
