//! A caller's deadline, kept by the server: what takes longer ends with `DEADLINE_EXCEEDED`, as gRPC says. tonic alone
//! ends it with `CANCELLED`.
//!
//! Must not know: what the calls mean.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::channel::asked_deadline;

/// tonic's own clock for the same deadline must not run out first.
const BEFORE_TONIC: Duration = Duration::from_millis(1);

/// The layer that keeps deadlines.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines;

/// A service whose calls end in time.
#[derive(Clone, Debug)]
pub struct InTime<S> {
    inner: S,
}

impl<S> Layer<S> for Deadlines {
    type Service = InTime<S>;

    fn layer(&self, inner: S) -> InTime<S> {
        InTime { inner }
    }
}

impl<S> Service<Request<Body>> for InTime<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = asked_deadline(request.headers());
        let deadline = limit.map(|limit| Instant::now() + limit.saturating_sub(BEFORE_TONIC));
        let call = self.inner.call(request);
        Box::pin(async move {
            let Some(deadline) = deadline else { return call.await };
            let late = |_| Ok(Status::deadline_exceeded("context deadline exceeded").into_http());
            timeout_at(deadline, call).await.unwrap_or_else(late)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn code_of(call: impl Future<Output = ()> + Send + 'static, timeout: &str) -> Option<String> {
        let mut call = Some(call);
        let server = service_fn(move |_: Request<Body>| {
            let call = call.take();
            async move {
                futures::future::OptionFuture::from(call).await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let request = Request::builder().header("grpc-timeout", timeout).body(Body::empty()).unwrap();
        let answer = Deadlines.layer(server).oneshot(request).await.unwrap();
        answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_call_that_outlives_its_deadline_ends_with_the_code_for_it() {
        let deadline_exceeded = Some((tonic::Code::DeadlineExceeded as i32).to_string());
        assert_eq!(code_of(std::future::pending(), "20m").await, deadline_exceeded);
        assert_eq!(code_of(std::future::pending(), "10u").await, deadline_exceeded);
        assert_eq!(code_of(std::future::ready(()), "10S").await, None);
    }
}
