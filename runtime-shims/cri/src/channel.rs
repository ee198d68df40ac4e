//! The way to a CRI runtime: a unix socket, or a tonic server in the same process. Callers cannot tell which.
//!
//! Every call gets a deadline here, because tonic enforces deadlines only in its own transport.
//! Must not know: what the calls mean, beyond how long each may take.

use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

/// Upstream's `runtimeRequestTimeout`.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
/// Upstream sets no deadline on pulls, and a stop or an exec may rightly last as long as its caller says.
/// Nothing here waits for ever, though.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

type Inner = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A cheaply cloned way to a CRI runtime. Requests that carry no `grpc-timeout` get the default of their method.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: Inner,
}

impl Channel {
    /// A channel to a tonic server in this process (its `Routes`, or one generated server).
    ///
    /// The handler runs in a task of its own: it survives a caller that gives up, as it would behind a socket.
    pub fn in_process<S>(server: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        S::Future: Send + 'static,
    {
        let detached = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let handler = tokio::spawn(async move { server.oneshot(request).await.map_err(Into::into) });
                handler.await.unwrap_or_else(|panicked| Err(panicked.into()))
            }
        });
        Self { inner: BoxCloneSyncService::new(detached) }
    }

    /// Connects to a unix socket now, and again by itself whenever the connection is lost.
    pub async fn socket(path: &Path) -> Result<Self, tonic::transport::Error> {
        Ok(Self::over(socket_transport(path).await?))
    }

    pub(crate) fn over(transport: tonic::transport::Channel) -> Self {
        Self { inner: BoxCloneSyncService::new(transport.map_err(Into::into)) }
    }
}

/// tonic's own channel over a unix socket, for services beside the CRI that live on the same socket.
pub(crate) async fn socket_transport(path: &Path) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    let path = path.to_path_buf();
    tonic::transport::Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_DEADLINE)
        .connect_with_connector(tower::service_fn(move |_| open(path.clone())))
        .await
}

async fn open(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let limit = asked_deadline(request.headers()).or_else(|| default_deadline(&method));
        if let Some(limit) = limit {
            request.headers_mut().insert("grpc-timeout", header_value(limit));
        }
        let call = self.inner.call(request);
        Box::pin(async move {
            let Some(limit) = limit else { return call.await };
            tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
                Err(Status::deadline_exceeded(format!("{method}: the runtime did not answer within {limit:?}")).into())
            })
        })
    }
}

/// What a call may take when its caller set nothing; `None` for streams, which last as long as they are read.
fn default_deadline(method: &str) -> Option<Duration> {
    match method {
        "GetContainerEvents" => None,
        streaming if streaming.starts_with("Stream") => None,
        "PullImage" | "StopContainer" | "ExecSync" | "CheckpointContainer" => Some(LONGEST_DEADLINE),
        // Upstream allows twice the usual for making a sandbox.
        "RunPodSandbox" => Some(DEFAULT_DEADLINE * 2),
        _ => Some(DEFAULT_DEADLINE),
    }
}

/// The `grpc-timeout` a caller set with `tonic::Request::set_timeout`: digits and a unit.
pub(crate) fn asked_deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(amount.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// gRPC allows eight digits: milliseconds where they fit, seconds beyond.
fn header_value(limit: Duration) -> HeaderValue {
    let text = match limit.as_millis() {
        millis if millis < 100_000_000 => format!("{}m", millis.max(1)),
        _ => format!("{}S", limit.as_secs().min(99_999_999)),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("120S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_the_caller_set_is_read_in_every_unit() {
        for (text, expected) in
            [("2H", 7200.0), ("3M", 180.0), ("4S", 4.0), ("5m", 0.005), ("6u", 0.000_006), ("7n", 0.000_000_007)]
        {
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(asked_deadline(&headers), Some(Duration::from_secs_f64(expected)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_deadline() {
        for text in ["", "S", "1x", "-1S", "99999999999999999999S", "é"] {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), value)]);
            assert_eq!(asked_deadline(&headers), None, "{text}");
        }
    }

    #[test]
    fn streams_have_no_deadline_and_everything_else_has_one() {
        assert_eq!(default_deadline("GetContainerEvents"), None);
        assert_eq!(default_deadline("StreamContainers"), None);
        assert_eq!(default_deadline("RunPodSandbox"), Some(Duration::from_secs(240)));
        assert_eq!(default_deadline("Version"), Some(Duration::from_secs(120)));
    }

    #[tokio::test]
    async fn in_process_a_deadline_ends_the_call_and_not_its_handler() {
        let (finish, mut finished) = tokio::sync::mpsc::channel(1);
        let server = tower::service_fn(move |_: Request<Body>| {
            let finish = finish.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                finish.send(()).await.unwrap();
                Ok::<_, BoxError>(Response::new(Body::default()))
            }
        });
        let mut client = crate::RuntimeClient::new(Channel::in_process(server));
        let mut request = tonic::Request::new(crate::v1::VersionRequest::default());
        request.set_timeout(Duration::from_millis(1));
        let status = client.version(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
        assert_eq!(finished.recv().await, Some(()), "the handler went on");
    }
}
