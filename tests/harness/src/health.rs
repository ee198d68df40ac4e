//! A gRPC server of `grpc.health.v1`: what a container's gRPC probe asks. It serves until a file says otherwise.
//!
//! Must not know: who probes.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// While this file exists the answer is `NOT_SERVING`.
pub const SICK: &str = "/tmp/sick";
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;

/// Answers on every address of this machine until the listener fails.
///
/// # Errors
/// The port is taken.
pub async fn serve(port: u16) -> Result<Infallible> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            if let Err(error) = connection.serve_connection(TokioIo::new(socket), service).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let known = request.uri().path() == "/grpc.health.v1.Health/Check";
    request.into_body().collect().await?;
    let status = if Path::new(SICK).exists() { NOT_SERVING } else { SERVING };
    // not compressed, two bytes long; field 1, a varint
    let message = if known { Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]) } else { Bytes::new() };
    let code = HeaderValue::from_static(if known { "0" } else { "12" });
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code)]);
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut answer = Response::new(body.boxed_unsync());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(answer)
}
