//! The bodies of requests and responses.
//!
//! Must not know: what is in them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, wherever it came from.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// How many bytes of pieces are gathered into one frame.
const GATHER: usize = 64 * 1024;

/// A response's body.
pub enum Body {
    Full(Bytes),
    /// Pieces shared with a cache, and how many bytes are left: gathered into frames as they are asked for,
    /// so that a large answer is never in memory as a whole.
    Pieces(VecDeque<Bytes>, u64),
    Stream(BoxStream<'static, Bytes>),
    /// What another server answers, relayed.
    Relayed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    pub fn pieces(pieces: VecDeque<Bytes>) -> Self {
        let size = pieces.iter().map(|p| p.len() as u64).sum();
        Self::Pieces(pieces, size)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Full(bytes.into())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Full(text.into())
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Full(Bytes::from_static(text.as_bytes()))
    }
}

/// The next frame: pieces up to a size together.
pub fn gather(pieces: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let first = pieces.pop_front()?;
    if first.len() >= GATHER || pieces.is_empty() {
        return Some(first);
    }
    let mut frame = BytesMut::with_capacity(GATHER + first.len());
    frame.extend_from_slice(&first);
    while let Some(next) = pieces.front() {
        if frame.len() + next.len() > GATHER {
            break;
        }
        frame.extend_from_slice(next);
        pieces.pop_front();
    }
    Some(frame.freeze())
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let data = match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => None,
            Self::Full(bytes) => Some(std::mem::take(bytes)),
            Self::Pieces(pieces, left) => gather(pieces).inspect(|frame| *left -= frame.len() as u64),
            Self::Stream(stream) => std::task::ready!(Pin::new(stream).poll_next(cx)),
            Self::Relayed(body) => return Pin::new(body).poll_frame(cx),
        };
        Poll::Ready(data.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Pieces(pieces, _) => pieces.is_empty(),
            Self::Stream(_) => false,
            Self::Relayed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_, left) => SizeHint::with_exact(*left),
            Self::Stream(_) => SizeHint::default(),
            Self::Relayed(body) => body.size_hint(),
        }
    }
}

/// Any body as a request's.
pub fn request_body<B>(body: B) -> RequestBody
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    use http_body_util::BodyExt as _;
    body.map_err(Into::into).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_are_gathered_and_none_is_lost() {
        let piece = Bytes::from(vec![7; 1000]);
        let body = Body::pieces((0..500).map(|_| piece.clone()).collect());
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(500_000));
        let all = body.collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), 500_000);
        assert!(all.iter().all(|b| *b == 7));
    }
}
