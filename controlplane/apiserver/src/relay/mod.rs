//! Requests for the insides of pods, services and nodes, relayed to where they run: a kubelet, or the pod itself.
//! An upgraded connection is relayed as bytes, each direction closed by itself.
//!
//! Must not know: what the streams carry.

mod target;

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pintle_api::status::Status;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::{Body, RequestBody, request_body};
use crate::negotiate;
use crate::render;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use target::Target;

/// How long the other end may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest refusal that is passed on as a message, in bytes.
const REFUSAL: usize = 64 * 1024;

/// Whether `info` is for something that runs elsewhere.
pub fn is_relayed(info: &RequestInfo) -> bool {
    match info.resource.as_str() {
        "pods" => matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy"),
        "services" | "nodes" => info.subresource == "proxy",
        _ => false,
    }
}

pub async fn serve(
    server: &Arc<ApiServer>,
    parts: Parts,
    info: &RequestInfo,
    query: &Query,
    body: RequestBody,
) -> Response<Body> {
    let errors = negotiate::accepted_for_errors(&parts.headers, query);
    let answer = match target::find(server, info, query) {
        Ok(Some(target)) => relay(server, parts, info, target, body).await,
        Ok(None) => Ok(render::text(200, "")),
        Err(status) => Err(status),
    };
    answer.unwrap_or_else(|status| render::status(&status, errors))
}

async fn relay(
    server: &ApiServer,
    mut parts: Parts,
    info: &RequestInfo,
    target: Target,
    body: RequestBody,
) -> Result<Response<Body>, Status> {
    let streams = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward");
    let upgrade = parts.headers.contains_key(UPGRADE).then(|| parts.extensions.remove::<OnUpgrade>()).flatten();
    if streams && upgrade.is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let request = outgoing(parts, &target, upgrade.is_some(), body)?;
    let unreachable = |error: anyhow::Error| unreachable(&target, &error);
    let mut response = match target.kubelet {
        true => send(tls(server, &target).await.map_err(unreachable)?, request).await.map_err(unreachable)?,
        false => send(tcp(&target).await.map_err(unreachable)?, request).await.map_err(unreachable)?,
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let near = upgrade.ok_or_else(|| Status::internal("an upgrade nobody asked for"))?;
        tokio::spawn(pipe(near, hyper::upgrade::on(&mut response)));
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    if info.subresource != "proxy" && !response.status().is_success() {
        return Err(refused(response).await);
    }
    Ok(response.map(|body| Body::Relayed(request_body(body))))
}

fn unreachable(target: &Target, error: &anyhow::Error) -> Status {
    Status::internal(format!("error dialing backend: {}:{}: {error:#}", target.host, target.port))
}

/// Credentials stay here: the other end is shown the server's own.
fn outgoing(parts: Parts, target: &Target, upgrades: bool, body: RequestBody) -> Result<Request<RequestBody>, Status> {
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        let private = *name == AUTHORIZATION || *name == HOST || name.as_str().starts_with("impersonate-");
        let hop = matches!(name.as_str(), "connection" | "upgrade" | "keep-alive" | "transfer-encoding" | "te");
        if !private && (!hop || (upgrades && (*name == CONNECTION || *name == UPGRADE))) {
            headers.append(name.clone(), value.clone());
        }
    }
    let host = HeaderValue::from_str(&authority(target)).map_err(Status::internal)?;
    headers.insert(HOST, host);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = target.path.parse().map_err(Status::internal)?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn authority(target: &Target) -> String {
    match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    }
}

async fn tcp(target: &Target) -> anyhow::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect((target.host.as_str(), target.port))).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tls(server: &ApiServer, target: &Target) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let config = server.config.kubelet_tls.clone();
    let config = config.ok_or_else(|| anyhow::anyhow!("the server has no certificate to show to kubelets"))?;
    let name = ServerName::try_from(target.host.clone())?;
    let connecting = TlsConnector::from(config).connect(name, tcp(target).await?);
    Ok(tokio::time::timeout(CONNECT, connecting).await??)
}

async fn send<S>(stream: S, request: Request<RequestBody>) -> anyhow::Result<Response<Incoming>>
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

/// Bytes both ways; one side closing its half leaves the other open.
async fn pipe(near: OnUpgrade, far: OnUpgrade) {
    let (near, far) = match tokio::try_join!(near, far) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade did not come about"),
    };
    let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
    if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
        tracing::debug!(%error, "a relayed stream ended");
    }
}

/// The other end's refusal as a Status.
async fn refused(response: Response<Incoming>) -> Status {
    let code = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned()).unwrap_or_default();
    match code {
        400 => Status::bad_request(text),
        404 => Status::new(404, "NotFound", text),
        401 | 403 => Status::new(code, "Forbidden", text),
        500 => Status::internal(text),
        code => Status::new(code, "InternalError", text),
    }
}
