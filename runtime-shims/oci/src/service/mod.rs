//! The CRI services: each call handed to whoever does it.
//!
//! Must not know: how anything is done.

mod image;
mod runtime;
mod status;

pub use image::Images;
pub use runtime::Service;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::{Response, Status};

use crate::error::Result;

type Answer<T> = std::result::Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, std::result::Result<T, Status>>;

/// What changes something goes on when its caller gives up: half done is nobody's.
async fn lasting<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(Ok(done)) => Ok(Response::new(done)),
        Ok(Err(error)) => Err(error.into()),
        Err(crash) => Err(Status::internal(format!("the call crashed: {crash}"))),
    }
}

/// A list as messages of so many items: one message has a limit, a stream of them has none.
fn in_parts<I: Send + 'static, M: Send + 'static>(items: Vec<I>, message: fn(Vec<I>) -> M) -> Response<Stream<M>> {
    const ITEMS: usize = 100;
    let mut items = items.into_iter().peekable();
    let parts = std::iter::from_fn(move || {
        items.peek()?;
        Some(Ok(message(items.by_ref().take(ITEMS).collect())))
    });
    Response::new(futures::stream::iter(parts).boxed())
}
