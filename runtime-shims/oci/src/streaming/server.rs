//! The streaming server: one HTTP listener on the loopback, which serves what a token was issued for.
//!
//! Must not know: what a session does.

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
use pintle_cri::streaming::bridge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::tokens::Tokens;
use super::{Command, PortForward};

/// Sessions at once; more clients wait to be accepted.
const MOST_SESSIONS: usize = 1024;

/// What a URL leads to.
#[derive(Debug)]
pub enum Request {
    Command(Command),
    PortForward(PortForward),
}

/// Issues URLs for requests.
#[derive(Debug)]
pub struct Streaming {
    address: SocketAddr,
    tokens: Arc<Tokens<Request>>,
}

impl Streaming {
    /// Listens, and serves until told to stop; sessions go on by themselves.
    pub async fn start(at: SocketAddr, stop: CancellationToken) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(at).await.with_context(|| format!("listening on {at} for streaming sessions"))?;
        let address = listener.local_addr().context("asking for the streaming address")?;
        let tokens = Arc::<Tokens<Request>>::default();
        let serving = tokens.clone();
        tokio::spawn(async move {
            tokio::select! { () = accept(listener, serving) => {}, () = stop.cancelled() => {} }
        });
        Ok(Self { address, tokens })
    }

    /// A URL that leads to the request once; `None` while too many wait.
    pub fn url(&self, request: Request) -> Option<String> {
        let kind = match request {
            Request::Command(_) => "command",
            Request::PortForward(_) => "portforward",
        };
        let token = self.tokens.issue(request, Instant::now())?;
        Some(format!("http://{}/{kind}/{token}", self.address))
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
        Request::Command(command) => (bridge::Session::Command(command.streams()), super::command::PROTOCOLS),
        Request::PortForward(forward) => {
            (bridge::Session::PortForward { ports: forward.ports.clone() }, super::ports::PROTOCOLS)
        }
    };
    let local = match bridge::accept_here(request, session, protocols) {
        Ok(local) => local,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let Some((connection, incoming)) = local.streams.await else { return };
        match wanted {
            Request::Command(command) => command.serve(connection, incoming, local.protocol).await,
            Request::PortForward(forward) => forward.serve(connection, incoming).await,
        }
    });
    local.answer
}
