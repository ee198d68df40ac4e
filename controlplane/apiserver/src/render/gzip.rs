//! Large answers compressed for who can read them: as upstream, what is more than 128 KiB, at the fastest level.
//!
//! Must not know: what is in them.

use std::collections::VecDeque;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http::{HeaderMap, Response};

use crate::body::{Body, gather};

/// Smaller answers are not worth it.
const LEAST: u64 = 128 * 1024;

/// Whether the client reads gzip.
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(',')).map(str::trim);
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// The response with its body compressed, where that is large and known.
pub fn compressed(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let pieces = match body {
        Body::Full(bytes) if bytes.len() as u64 > LEAST => VecDeque::from([bytes]),
        Body::Pieces(pieces, size) if size > LEAST => pieces,
        other => return Response::from_parts(parts, other),
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let stream = futures::stream::unfold((pieces, Some(encoder)), |(mut pieces, encoder)| async move {
        let (chunk, encoder) = next(&mut pieces, encoder?)?;
        Some((chunk, (pieces, encoder)))
    });
    Response::from_parts(parts, Body::Stream(Box::pin(stream)))
}

type Encoder = GzEncoder<Vec<u8>>;

/// The next compressed bytes; the encoder is gone once they are the last.
fn next(pieces: &mut VecDeque<Bytes>, mut encoder: Encoder) -> Option<(Bytes, Option<Encoder>)> {
    while let Some(piece) = gather(pieces) {
        // writing to memory does not fail
        encoder.write_all(&piece).ok()?;
        if !encoder.get_ref().is_empty() {
            let done = std::mem::take(encoder.get_mut());
            return Some((done.into(), Some(encoder)));
        }
    }
    Some((encoder.finish().ok()?.into(), None))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_large_is_compressed_and_reads_as_before() {
        let piece = Bytes::from("0123456789abcdef".repeat(1000));
        let body = Body::pieces((0..40).map(|_| piece.clone()).collect());
        let response = compressed(Response::new(body));
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), 640_000);
        let small = compressed(Response::new("short".into()));
        assert!(!small.headers().contains_key(CONTENT_ENCODING));
    }

    #[test]
    fn the_client_says_whether_it_reads_gzip() {
        let accepts = |text: &'static str| {
            is_accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(text))]))
        };
        assert!(accepts("gzip") && accepts("deflate, gzip;q=0.5"));
        assert!(!accepts("gzip;q=0") && !accepts("br") && !is_accepted(&HeaderMap::new()));
    }
}
