//! Serves a client's upgrade request (WebSocket or SPDY) from a runtime's streaming URL.
//!
//! The runtime is asked first, so that a refusal reaches the client as an ordinary HTTP answer.
//! Must not know: who the client is, whether it may, or which URL belongs to its pod.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use pintle_daemon::relay::both_ways;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

pub use super::command::Streams;
use super::command::{self, Protocol};
use super::spdy::{Connection, Incoming, Side};
use super::upgrade::{PROTOCOL_VERSION, SPDY, UpgradeError, to_spdy};
use super::websocket::{self, Framing};
use super::{command::PROTOCOLS as COMMAND_PROTOCOLS, ports};

/// An answer to an upgrade request: 101 without a body, or a refusal with its reason as text.
pub type Answer = Response<Full<Bytes>>;

/// A client that has its 101 must go on within this time.
const CLIENT_GOES_ON_WITHIN: Duration = Duration::from_secs(30);
/// Bytes between the two ends of a session that ends in this process.
const IN_MEMORY: usize = 64 << 10;

/// What the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// Exec or attach, with these streams.
    Command(Streams),
    /// The ports are those of the request's query, which WebSocket clients without a tunnel give; else empty.
    PortForward { ports: Vec<u16> },
}

/// How to speak with this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The client speaks SPDY itself: bytes are passed on unread.
    Raw,
    Command(Protocol),
    Tunnel,
    Ports(&'static str, Framing),
}

/// Answers an upgrade request and, after a 101, serves the session in a task of its own until either side ends it.
/// `url` is what the runtime's `Exec`, `Attach` or `PortForward` call gave.
///
/// Stream protocols: `v5.`, `v4.` and unversioned `channel.k8s.io` over WebSocket (plain and base64),
/// `SPDY/3.1+portforward.k8s.io` tunnels, and SPDY/3.1 as it is.
pub async fn serve<B>(mut request: Request<B>, url: &str, session: Session) -> Answer {
    let way = match way(request.headers(), &session) {
        Ok(way) => way,
        Err(refusal) => return *refusal,
    };
    let offered: Vec<HeaderValue> = match way {
        Way::Raw => request.headers().get_all(PROTOCOL_VERSION).iter().cloned().collect(),
        Way::Command(_) => vec![HeaderValue::from_static("v4.channel.k8s.io")],
        Way::Tunnel | Way::Ports(..) => vec![HeaderValue::from_static(ports::PORT_FORWARD)],
    };
    let runtime = match to_spdy(url, &offered).await {
        Ok(raised) => raised,
        Err(UpgradeError::Refused(answer)) => return *answer,
        Err(error) => return plain(StatusCode::BAD_GATEWAY, &format!("{:#}", anyhow::Error::from(error))),
    };
    let answer = match accept(way, request.headers(), &runtime.headers) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Some(client) = raise(client).await {
            carry(client, runtime.io, way, session).await;
        }
    });
    answer
}

/// A session that ends in this process.
pub struct Local {
    pub answer: Answer,
    /// To be awaited once the answer is on its way: the streams, or `None` when the client did not go on.
    pub streams: BoxFuture<'static, Option<(Connection, Incoming)>>,
    /// Which of `protocols` is spoken on the streams.
    pub protocol: &'static str,
}

/// Answers an upgrade request with SPDY streams in this process: those of a SPDY client itself, those that stand for a
/// WebSocket client's channels else. `protocols` are the stream protocols spoken here, the best first: a WebSocket
/// client gets the first.
///
/// # Errors
/// The refusal to answer with.
pub fn accept_here<B>(
    mut request: Request<B>,
    session: Session,
    protocols: &[&'static str],
) -> Result<Local, Box<Answer>> {
    let way = way(request.headers(), &session)?;
    let protocol = match way {
        Way::Raw => agreed(request.headers(), protocols),
        _ => protocols.first().copied(),
    };
    let protocol = protocol.ok_or_else(|| {
        Box::new(plain(StatusCode::FORBIDDEN, &format!("none of the stream protocols offered is one of {protocols:?}")))
    })?;
    let mut chosen = HeaderMap::new();
    chosen.insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    let answer = accept(way, request.headers(), &chosen)?;
    let client = hyper::upgrade::on(&mut request);
    Ok(Local { answer, streams: Box::pin(streams(client, way, session)), protocol })
}

/// The first of `protocols` that a SPDY client offers; one that offers none takes any.
fn agreed(asked: &HeaderMap, protocols: &[&'static str]) -> Option<&'static str> {
    let lines = asked.get_all(PROTOCOL_VERSION).iter().filter_map(|line| line.to_str().ok());
    let offered: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    if offered.is_empty() {
        return protocols.last().copied();
    }
    protocols.iter().find(|protocol| offered.contains(protocol)).copied()
}

async fn streams(client: OnUpgrade, way: Way, session: Session) -> Option<(Connection, Incoming)> {
    let client = raise(client).await?;
    if way == Way::Raw {
        return Some(Connection::start(client, Side::Server));
    }
    let (near, far) = tokio::io::duplex(IN_MEMORY);
    tokio::spawn(carry(client, far, way, session));
    Some(Connection::start(near, Side::Server))
}

fn way(headers: &HeaderMap, session: &Session) -> Result<Way, Box<Answer>> {
    if websocket::asked(headers) {
        return websocket_way(&websocket::offered(headers), session).ok_or_else(|| {
            let text = "none of the WebSocket subprotocols offered is spoken here";
            Box::new(plain(StatusCode::BAD_REQUEST, text))
        });
    }
    let spdy = headers.get_all(UPGRADE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes()));
    if spdy { Ok(Way::Raw) } else { Err(Box::new(plain(StatusCode::BAD_REQUEST, "Upgrade request required"))) }
}

/// The first subprotocol of the client's that is spoken here.
fn websocket_way(offered: &[&str], session: &Session) -> Option<Way> {
    let offered = if offered.is_empty() { &[""] } else { offered };
    match session {
        Session::Command(_) => offered.iter().find_map(|name| {
            COMMAND_PROTOCOLS.iter().find(|protocol| protocol.name == *name).map(|protocol| Way::Command(*protocol))
        }),
        Session::PortForward { ports } => offered.iter().find_map(|name| {
            if *name == ports::TUNNEL {
                return Some(Way::Tunnel);
            }
            let spoken = (1..=ports::MOST_PORTS).contains(&ports.len());
            let (name, framing) = ports::PROTOCOLS.iter().find(|(known, _)| spoken && known == name)?;
            Some(Way::Ports(name, *framing))
        }),
    }
}

fn accept(way: Way, asked: &HeaderMap, runtime: &HeaderMap) -> Result<Answer, Box<Answer>> {
    match way {
        Way::Raw => Ok(accept_raw(runtime)),
        Way::Command(protocol) => websocket::accept(asked, protocol.name),
        Way::Tunnel => websocket::accept(asked, ports::TUNNEL),
        Way::Ports(name, _) => websocket::accept(asked, name),
    }
}

fn accept_raw(runtime: &HeaderMap) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, SPDY);
    for chosen in runtime.get_all(PROTOCOL_VERSION) {
        headers.append(PROTOCOL_VERSION, chosen.clone());
    }
    answer
}

async fn raise(client: OnUpgrade) -> Option<TokioIo<Upgraded>> {
    match tokio::time::timeout(CLIENT_GOES_ON_WITHIN, client).await {
        Ok(Ok(client)) => return Some(TokioIo::new(client)),
        Ok(Err(error)) => debug!(%error, "a client did not upgrade its connection"),
        Err(_elapsed) => debug!("a client did not upgrade its connection in time"),
    }
    None
}

async fn carry<R>(client: TokioIo<Upgraded>, runtime: R, way: Way, session: Session)
where
    R: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match (way, session) {
        (Way::Raw, _) => relay(client, runtime).await,
        (Way::Tunnel, _) => ports::tunnel(websocket::start(client).await, runtime).await,
        (Way::Command(protocol), Session::Command(streams)) => {
            let (connection, _no_streams_from_there) = Connection::start(runtime, Side::Client);
            command::serve(websocket::start(client).await, protocol, connection, streams).await;
        }
        (Way::Ports(_, framing), Session::PortForward { ports }) => {
            let (connection, _no_streams_from_there) = Connection::start(runtime, Side::Client);
            ports::serve(websocket::start(client).await, framing, connection, ports).await;
        }
        // A way is chosen for its session.
        (Way::Command(_) | Way::Ports(..), _) => {}
    }
}

/// Both directions, each closed on its own.
async fn relay<R: AsyncRead + AsyncWrite>(client: TokioIo<Upgraded>, runtime: R) {
    if let Err(error) = both_ways(client, runtime).await {
        debug!(%error, "a streaming session broke");
    }
}

/// A refusal in words.
pub(super) fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(offered: &[&str], session: &Session) -> Option<String> {
        websocket_way(offered, session).map(|way| match way {
            Way::Command(protocol) => protocol.name.to_owned(),
            Way::Ports(name, _) => name.to_owned(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn the_clients_first_known_subprotocol_is_chosen() {
        let exec = Session::Command(Streams::default());
        assert_eq!(chosen(&["v9", "v5.channel.k8s.io", "v4.channel.k8s.io"], &exec), Some("v5.channel.k8s.io".into()));
        assert_eq!(chosen(&[], &exec), Some(String::new()));
        assert_eq!(chosen(&["v9"], &exec), None);
    }

    #[test]
    fn port_forward_tunnels_or_names_its_ports() {
        let without = Session::PortForward { ports: vec![] };
        let with = Session::PortForward { ports: vec![80] };
        assert_eq!(chosen(&["SPDY/3.1+portforward.k8s.io"], &without), Some("Tunnel".into()));
        assert_eq!(chosen(&["v4.channel.k8s.io"], &without), None);
        assert_eq!(chosen(&["v4.channel.k8s.io"], &with), Some("v4.channel.k8s.io".into()));
    }

    #[test]
    fn a_spdy_client_gets_the_best_protocol_that_both_speak() {
        let mut asked = HeaderMap::new();
        let spoken = ["v4.channel.k8s.io", "v3.channel.k8s.io"];
        assert_eq!(agreed(&asked, &spoken), Some("v3.channel.k8s.io"));
        asked.append(PROTOCOL_VERSION, HeaderValue::from_static("v9, v3.channel.k8s.io"));
        assert_eq!(agreed(&asked, &spoken), Some("v3.channel.k8s.io"));
        asked.append(PROTOCOL_VERSION, HeaderValue::from_static("v4.channel.k8s.io"));
        assert_eq!(agreed(&asked, &spoken), Some("v4.channel.k8s.io"));
        assert_eq!(agreed(&asked, &["portforward.k8s.io"]), None);
    }

    #[test]
    fn a_plain_request_is_told_to_upgrade() {
        let refused = way(&HeaderMap::new(), &Session::Command(Streams::default())).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    }
}
