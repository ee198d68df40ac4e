//! CRI's two services: each call to the file that carries it out.
//!
//! Must not know: how anything is done.

mod images;
mod runtime;

use futures::stream::{self, BoxStream};
use tonic::{Response, Status};

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Messages of this many items each, for the streaming lists.
const PAGE: usize = 100;

fn pages<I, T>(items: Vec<I>, page: impl Fn(Vec<I>) -> T) -> Result<Response<Answers<T>>, Status>
where
    I: Clone,
    T: Send + 'static,
{
    let answers: Vec<_> = items.chunks(PAGE).map(|items| Ok(page(items.to_vec()))).collect();
    Ok(Response::new(Box::pin(stream::iter(answers))))
}

/// A message that must be there.
fn given<T>(message: Option<T>, name: &str) -> Result<T, Status> {
    message.ok_or_else(|| Status::invalid_argument(format!("{name} is not set")))
}
