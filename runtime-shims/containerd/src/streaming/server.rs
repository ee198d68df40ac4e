//! The streaming server: one HTTP listener on the loopback, which serves what a token was issued for.
//!
//! Must not know: what a session does.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use pintle_cri::streaming::bridge::{self, Session, Streams};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::command::{Command, Target};
use super::tokens::Tokens;
use super::{command, ports};
use crate::Inner;

/// Sessions at once; more clients wait to be accepted.
const MOST_SESSIONS: usize = 1024;
const AGAIN: Duration = Duration::from_millis(100);

/// The runtime, once it is there; the server begins before it.
type Runtime = watch::Receiver<Weak<Inner>>;

/// What a URL leads to.
#[derive(Debug)]
pub enum Request {
    /// An exec in a container, or its own process.
    Command { container: String, target: Target, streams: Streams },
    /// `None` is the host's network; no ports are any.
    PortForward { network: Option<PathBuf>, ports: Vec<u16> },
}

/// Issues URLs for requests; sessions that began go on when it ends.
pub struct Server {
    address: SocketAddr,
    tokens: Arc<Tokens<Request>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens on the loopback, for the runtime that `runtime` leads to.
    pub async fn start(runtime: Runtime) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening for streaming sessions")?;
        let address = listener.local_addr().context("asking for the streaming address")?;
        let tokens = Arc::<Tokens<Request>>::default();
        let listening = tokio::spawn(accept(listener, tokens.clone(), runtime));
        Ok(Self { address, tokens, listening })
    }

    /// A URL that leads to the request once; `None` while too many wait.
    pub fn url(&self, request: Request) -> Option<String> {
        let token = self.tokens.issue(request, Instant::now())?;
        Some(format!("http://{}/session/{token}", self.address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn accept(listener: TcpListener, tokens: Arc<Tokens<Request>>, runtime: Runtime) {
    let sessions = Arc::new(Semaphore::new(MOST_SESSIONS));
    loop {
        let Ok(permit) = sessions.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let serving = connection(socket, tokens.clone(), runtime.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a streaming client could not be accepted");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, tokens: Arc<Tokens<Request>>, runtime: Runtime) {
    // Keystrokes must not wait for each other; without this they only do.
    let _ = socket.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let (tokens, runtime) = (tokens.clone(), runtime.clone());
        async move { Ok::<_, Infallible>(answer(request, &tokens, &runtime)) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    if let Err(error) = http.await {
        tracing::debug!(%error, "a streaming client's connection broke");
    }
}

fn answer(request: http::Request<Incoming>, tokens: &Tokens<Request>, runtime: &Runtime) -> Response<Full<Bytes>> {
    let token = request.uri().path().rsplit('/').next().unwrap_or_default();
    let found = tokens.redeem(token, Instant::now()).zip(runtime.borrow().upgrade());
    let Some((wanted, runtime)) = found else {
        let mut refusal = Response::new(Full::from("this URL is not known, was used, or is too old\n"));
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        return refusal;
    };
    let (session, protocols) = match &wanted {
        Request::Command { streams, .. } => (Session::Command(*streams), command::PROTOCOLS),
        Request::PortForward { ports, .. } => (Session::PortForward { ports: ports.clone() }, ports::PROTOCOLS),
    };
    let local = match bridge::accept_here(request, session, protocols) {
        Ok(local) => local,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let Some((connection, incoming)) = local.streams.await else { return };
        match wanted {
            Request::Command { container, target, streams } => {
                let command = Command { runtime, container, target, streams };
                command.serve(connection, incoming, local.protocol).await;
            }
            Request::PortForward { network, .. } => ports::serve(network, connection, incoming).await,
        }
    });
    local.answer
}
