//! One SPDY stream: a reader and a writer, closed independently.
//!
//! Must not know: frames' bytes, other streams.

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use super::headers::Headers;

/// Larger writes are cut: Go's reader takes a frame as one allocation.
const LARGEST_FRAME: usize = 32 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StreamError {
    #[error("the peer reset the stream (status {0})")]
    Reset(u32),
    #[error("the connection was lost")]
    Lost,
    #[error("the peer did not answer in time")]
    Unanswered,
}

/// What the connection's reader passes to a stream.
#[derive(Debug)]
pub(super) enum Arrival {
    Data(Bytes),
    Fin,
    Reset(u32),
}

/// What a stream asks the connection's writer to send.
#[derive(Debug)]
pub(super) enum Departure {
    Control(super::frame::Control),
    Data { stream: u32, fin: bool, data: Bytes },
}

/// A stream with both directions open.
#[derive(Debug)]
pub struct Stream {
    pub headers: Headers,
    pub reader: StreamReader,
    pub writer: StreamWriter,
}

/// The peer's half.
#[derive(Debug)]
pub struct StreamReader {
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) ended: bool,
}

/// Our half. Dropping it closes it, as far as that can be told without waiting.
#[derive(Debug)]
pub struct StreamWriter {
    pub(super) stream: u32,
    pub(super) departures: mpsc::Sender<Departure>,
    pub(super) closed: bool,
}

impl StreamReader {
    /// The next piece of data; `None` once the peer closed its half. Safe to cancel.
    ///
    /// # Errors
    /// The stream was reset, or the connection lost, before its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        if self.ended {
            return Ok(None);
        }
        let arrival = self.arrivals.recv().await;
        self.ended = !matches!(arrival, Some(Arrival::Data(_)));
        match arrival {
            Some(Arrival::Data(data)) => Ok(Some(data)),
            Some(Arrival::Fin) => Ok(None),
            Some(Arrival::Reset(status)) => Err(StreamError::Reset(status)),
            None => Err(StreamError::Lost),
        }
    }
}

impl StreamWriter {
    /// Sends data, in frames of a bounded size; waits while the connection is busy.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(LARGEST_FRAME));
            self.depart(Departure::Data { stream: self.stream, fin: false, data: piece }).await?;
        }
        Ok(())
    }

    /// Closes our half; the peer's stays open.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        if self.closed {
            return Ok(());
        }
        self.depart(Departure::Data { stream: self.stream, fin: true, data: Bytes::new() }).await?;
        self.closed = true;
        Ok(())
    }

    async fn depart(&self, departure: Departure) -> Result<(), StreamError> {
        self.departures.send(departure).await.map_err(|_| StreamError::Lost)
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.closed {
            // A full queue means a connection that does not move: its end closes the stream as well.
            let _ = self.departures.try_send(Departure::Data { stream: self.stream, fin: true, data: Bytes::new() });
        }
    }
}
