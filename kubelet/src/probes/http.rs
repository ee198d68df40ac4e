//! HTTP requests of probes and hooks: no proxy, certificates not verified, redirects within the same host followed.
//! Source: upstream's probe/http.
//!
//! Must not know: what an answer means.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::check::port;

const REDIRECTS: usize = 10;
/// What is read of a body: enough to keep the peer happy.
const MOST_BODY: usize = 10 << 10;

/// A GET to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

pub struct Answer {
    pub status: u16,
    location: Option<String>,
}

impl Request {
    /// The request of an HTTP action; a host it does not name is the pod's address.
    ///
    /// # Errors
    /// Its port is neither a number nor a name of the container's.
    pub fn of(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<Self, String> {
        let path = action.path.clone().unwrap_or_default();
        let headers = action.http_headers.iter().flatten().map(|one| (one.name.clone(), one.value.clone()));
        Ok(Self {
            tls: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.into()),
            port: port(&action.port, container)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: headers.collect(),
        })
    }

    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

/// Sends the request and follows redirects, all within `limit`.
///
/// # Errors
/// No answer: why, as Go's client words it.
pub async fn send(request: &Request, limit: Duration) -> Result<Answer, String> {
    let exceeded = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    tokio::time::timeout(limit, follow(request.clone())).await.unwrap_or_else(|_| Err(exceeded.into()))
}

async fn follow(mut request: Request) -> Result<Answer, String> {
    for _ in 0..REDIRECTS {
        let answer = once(&request).await?;
        let next = answer.location.as_deref().filter(|_| (300..400).contains(&answer.status));
        match next.and_then(|location| redirected(&request, location)) {
            Some(next) => request = next,
            // another host is a redirect the probe does not follow: the answer stands
            None => return Ok(answer),
        }
    }
    Err(format!("stopped after {REDIRECTS} redirects"))
}

fn redirected(request: &Request, location: &str) -> Option<Request> {
    if location.starts_with('/') {
        return Some(Request { path: location.into(), ..request.clone() });
    }
    let uri: http::Uri = location.parse().ok()?;
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
    (uri.host() == Some(request.host.as_str())).then(|| Request { tls, port, path, ..request.clone() })
}

async fn once(request: &Request) -> Result<Answer, String> {
    let place = request.authority();
    let stream = TcpStream::connect((request.host.as_str(), request.port)).await;
    let stream = stream.map_err(|error| format!("dial tcp {place}: {}", dial_error(&error)))?;
    if !request.tls {
        return exchange(request, stream).await;
    }
    let name = ServerName::try_from(request.host.clone()).map_err(|error| error.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(pintle_pki::unverified().map_err(|error| error.to_string())?)
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    exchange(request, stream).await
}

/// The system's text without its number, as Go prints it.
pub fn dial_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    format!("connect: {text}")
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    request: &Request,
    stream: S,
) -> Result<Answer, String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(build(request)?).await.map_err(failed)?;
    let location =
        answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_string);
    let status = answer.status().as_u16();
    // a body that does not fit or breaks off changes nothing about the status
    let _ = Limited::new(answer.into_body(), MOST_BODY).collect().await;
    driver.abort();
    Ok(Answer { status, location })
}

fn build(request: &Request) -> Result<http::Request<Empty<bytes::Bytes>>, String> {
    let given = |name: &str| request.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut builder = http::Request::get(&request.path);
    for (name, default) in
        [("host", request.authority()), ("user-agent", "kube-probe/1.36".into()), ("accept", "*/*".into())]
    {
        if !given(name) {
            builder = builder.header(name, default);
        }
    }
    // an empty value takes a default header away
    for (name, value) in request.headers.iter().filter(|(_, value)| !value.is_empty()) {
        builder = builder.header(name, value);
    }
    builder.header("connection", "close").body(Empty::new()).map_err(|error| error.to_string())
}
