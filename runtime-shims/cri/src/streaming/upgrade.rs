//! Upgrading a connection to a runtime's streaming server, whose URL its `Exec`, `Attach` and `PortForward` calls give.
//!
//! Must not know: what is spoken after the upgrade.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::bridge::Answer;

const WITHIN: Duration = Duration::from_secs(30);
/// What is kept of the text that a runtime refuses with.
const MOST_REFUSAL: usize = 64 << 10;

/// Names the protocol in an upgrade to SPDY.
pub const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
/// Carries the stream protocols, offered and chosen.
pub const PROTOCOL_VERSION: &str = "x-stream-protocol-version";

/// Why a runtime's streaming server could not be reached.
#[derive(Debug, Error)]
pub enum UpgradeError {
    #[error("the runtime gave {0:?}, which is no streaming URL (http://host:port/…)")]
    Url(String),
    #[error("the runtime's streaming server at {0} does not answer")]
    Unanswered(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered something else than 101: this.
    #[error("the runtime's streaming server refused with {}", .0.status())]
    Refused(Box<Answer>),
}

/// An upgraded connection, and the headers of the answer that upgraded it.
pub struct Raised {
    pub io: TokioIo<Upgraded>,
    pub headers: HeaderMap,
}

/// Asks for SPDY/3.1, offering the stream protocols in `offered`.
pub async fn to_spdy(url: &str, offered: &[HeaderValue]) -> Result<Raised, UpgradeError> {
    let attempt = tokio::time::timeout(WITHIN, attempt(url, offered)).await;
    attempt.unwrap_or_else(|elapsed| Err(UpgradeError::Unanswered(url.to_owned(), elapsed.into())))
}

async fn attempt(url: &str, offered: &[HeaderValue]) -> Result<Raised, UpgradeError> {
    let (address, request) = request(url, offered).ok_or_else(|| UpgradeError::Url(url.to_owned()))?;
    let unanswered = |error: Box<dyn std::error::Error + Send + Sync>| UpgradeError::Unanswered(address.clone(), error);
    let socket = TcpStream::connect(&address).await.map_err(|error| unanswered(error.into()))?;
    // Keystrokes are small and must not wait for each other.
    socket.set_nodelay(true).map_err(|error| unanswered(error.into()))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.map_err(|error| unanswered(error.into()))?;
    tokio::spawn(connection.with_upgrades());
    let answer = sender.send_request(request).await.map_err(|error| unanswered(error.into()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Refused(Box::new(refusal(answer).await)));
    }
    let headers = answer.headers().clone();
    let io = hyper::upgrade::on(answer).await.map_err(|error| unanswered(error.into()))?;
    Ok(Raised { io: TokioIo::new(io), headers })
}

/// The address to connect to, and what to send there; `None` for what is no `http` URL.
fn request(url: &str, offered: &[HeaderValue]) -> Option<(String, Request<Empty<Bytes>>)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query()?.as_str())
        .header(HOST, authority.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY)
        .body(Empty::new())
        .ok()?;
    for protocol in offered {
        request.headers_mut().append(PROTOCOL_VERSION, protocol.clone());
    }
    Some((address, request))
}

async fn refusal(answer: Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = answer.into_parts();
    let text = Limited::new(body, MOST_REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut refusal = Response::new(Full::new(text));
    // An answer that promises a protocol but is no 101 would only confuse the client.
    let failed = parts.status.is_client_error() || parts.status.is_server_error();
    *refusal.status_mut() = if failed { parts.status } else { StatusCode::BAD_GATEWAY };
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_goes_to_the_urls_host_and_path() {
        let offered = [HeaderValue::from_static("v4.channel.k8s.io")];
        let (address, request) = request("http://127.0.0.1:1234/exec/TOKEN?x=1", &offered).unwrap();
        assert_eq!(address, "127.0.0.1:1234");
        assert_eq!(request.uri(), "/exec/TOKEN?x=1");
        assert_eq!(request.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["", "/exec/TOKEN", "https://127.0.0.1/x", "http://", "unix:///x", "http://a b/"] {
            assert!(request(url, &[]).is_none(), "{url}");
        }
    }
}
