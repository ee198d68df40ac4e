//! The CRI log format, one record per line: `TIMESTAMP STREAM TAGS CONTENT\n`.
//!
//! TIMESTAMP is RFC 3339 with nanoseconds, STREAM `stdout` or `stderr`; the first of the `:`-separated TAGS is `P` for a
//! part of a longer line and `F` for a full line or its last part.
//! Must not know: files, rotation, or who follows a log.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use memchr::memchr;
use thiserror::Error;

/// Which of a container's outputs a record is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// One record. `content` of a full record keeps the newline that ended it, when there was one; of a partial one never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub timestamp: Timestamp,
    /// The timestamp as it is written, which `kubectl logs --timestamps` shows unchanged.
    pub written_timestamp: &'a str,
    pub stream: Stream,
    /// The record is a part of a line, and more of it follows in this stream.
    pub partial: bool,
    pub content: &'a [u8],
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    #[error("timestamp is not found")]
    NoTimestamp,
    #[error("unexpected timestamp {0:?}")]
    Timestamp(String),
    #[error("stream type is not found")]
    NoStream,
    #[error("unexpected stream type {0:?}")]
    Stream(String),
    #[error("log tag is not found")]
    NoTag,
}

/// Reads one line, with or without its newline.
///
/// # Errors
/// [`ParseError`] for anything that is no record; never panics, whatever the bytes.
pub fn parse(line: &[u8]) -> Result<Record<'_>, ParseError> {
    let (timestamp, rest) = split(line).ok_or(ParseError::NoTimestamp)?;
    let written_timestamp = std::str::from_utf8(timestamp).map_err(|_| ParseError::Timestamp(lossy(timestamp)))?;
    let timestamp = written_timestamp.parse().map_err(|_| ParseError::Timestamp(lossy(timestamp)))?;
    let (stream, rest) = split(rest).ok_or(ParseError::NoStream)?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        other => return Err(ParseError::Stream(lossy(other))),
    };
    let (tags, content) = split(rest).ok_or(ParseError::NoTag)?;
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    let content = if partial { content.strip_suffix(b"\n").unwrap_or(content) } else { content };
    Ok(Record { timestamp, written_timestamp, stream, partial, content })
}

/// Writes one record and its newline. `content` is one line or a part of one, without its newline.
pub fn write(into: &mut BytesMut, timestamp: Timestamp, stream: Stream, partial: bool, content: &[u8]) {
    into.reserve(content.len() + 48);
    // Always nine digits, as containerd writes: lines of one log then sort and align.
    into.put_slice(format!("{timestamp:.9} {} ", stream.as_str()).as_bytes());
    into.put_slice(if partial { b"P " } else { b"F " });
    into.put_slice(content);
    into.put_u8(b'\n');
}

/// One record as bytes of its own; see [`write`].
pub fn record(timestamp: Timestamp, stream: Stream, partial: bool, content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    write(&mut bytes, timestamp, stream, partial, content);
    bytes.freeze()
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b' ', bytes)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// An error quotes no more of a broken line than one can read.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_full_line_with_its_newline() {
        let record = parse(b"2026-10-20T18:39:20.57606443Z stdout F hello world\n").unwrap();
        assert_eq!(record.timestamp.as_nanosecond() % 1_000_000_000, 576_064_430);
        assert_eq!(record.written_timestamp, "2026-10-20T18:39:20.57606443Z");
        assert_eq!((record.stream, record.partial, record.content), (Stream::Stdout, false, &b"hello world\n"[..]));
    }

    #[test]
    fn a_partial_record_loses_its_newline_and_unknown_tags_are_ignored() {
        let record = parse(b"2026-10-20T18:39:20.5+02:00 stderr P:X half\n").unwrap();
        assert_eq!((record.stream, record.partial, record.content), (Stream::Stderr, true, &b"half"[..]));
    }

    #[test]
    fn says_which_part_is_wrong() {
        assert_eq!(parse(b""), Err(ParseError::NoTimestamp));
        assert_eq!(parse(b"yesterday stdout F x"), Err(ParseError::Timestamp("yesterday".into())));
        assert_eq!(parse(b"2026-10-20T18:39:20Z "), Err(ParseError::NoStream));
        assert_eq!(parse(b"2026-10-20T18:39:20Z stdin F x"), Err(ParseError::Stream("stdin".into())));
        assert_eq!(parse(b"2026-10-20T18:39:20Z stdout F"), Err(ParseError::NoTag));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read_back(
            nanos in 0i64..4_000_000_000_000_000_000,
            partial: bool,
            content in proptest::collection::vec(any::<u8>().prop_filter("line", |b| *b != b'\n'), 0..100),
        ) {
            let at = Timestamp::from_nanosecond(nanos.into()).unwrap();
            let line = record(at, Stream::Stderr, partial, &content);
            let read = parse(&line).unwrap();
            prop_assert_eq!(read.timestamp, at);
            prop_assert_eq!(read.partial, partial);
            prop_assert_eq!(read.content.strip_suffix(b"\n").unwrap_or(read.content), &content[..]);
        }
    }
}
