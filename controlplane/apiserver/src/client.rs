//! A `kube::Client` inside the process: the same router, with an identity that only this layer can set.
//!
//! Must not know: what is asked.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{HOST, HeaderValue, UPGRADE};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::auth::UserInfo;
use crate::body::{Body, BoxError, RequestBody, request_body};
use crate::handler::InProcess;
use crate::server::ApiServer;

impl ApiServer {
    /// A client that acts as `user`; what `user` may do is decided as for anybody.
    pub fn client(self: &Arc<Self>, user: UserInfo) -> kube::Client {
        kube::Client::new(Front { server: self.clone(), user }, "default")
    }
}

impl ApiServer {
    /// HTTP over a connection whose other end is `user` without proving it: one in memory, or one on loopback while
    /// developing.
    pub async fn serve_stream<S>(self: Arc<Self>, stream: S, user: UserInfo, cancel: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let front = Front { server: self, user };
        let service = service_fn(move |request: Request<Incoming>| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request.map(request_body)).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        let ended = tokio::select! {
            ended = connection => ended,
            () = cancel.cancelled() => return,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection inside the process ended");
        }
    }
}

#[derive(Clone)]
struct Front {
    server: Arc<ApiServer>,
    user: UserInfo,
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Service<Request<kube::client::Body>> for Front {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answer<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        let front = self.clone();
        request.extensions_mut().clear();
        if request.headers().contains_key(UPGRADE) {
            return Box::pin(front.upgrade(request));
        }
        Box::pin(async move { Ok(front.answer(request.map(request_body)).await) })
    }
}

/// What one direction of an upgraded connection holds before its writer waits, in bytes.
const PIPE: usize = 64 * 1024;

impl Front {
    async fn answer(self, mut request: Request<RequestBody>) -> Response<Body> {
        request.extensions_mut().insert(InProcess(self.user));
        self.server.handle(request).await
    }

    /// An upgrade needs a connection to take over: one in memory.
    async fn upgrade(self, mut request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
        let (near, far) = tokio::io::duplex(PIPE);
        let cancel = self.server.cancel.clone();
        tokio::spawn(self.server.serve_stream(far, self.user, cancel));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection.with_upgrades());
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
        *request.uri_mut() = path.parse()?;
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("kubernetes.default"));
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| Body::Relayed(request_body(body))))
    }
}
