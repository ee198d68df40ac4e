//! A SPDY connection over any byte stream: one task reads, one writes, streams talk to them through bounded queues.
//!
//! A stream whose reader is slow holds up the whole connection, as it does in the Go peer: that is the back-pressure.
//! Must not know: what the streams carry.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use super::frame::{Control, HEAD, Head, REFUSED_STREAM, data_head};
use super::headers::{Deflater, Headers, Inflater};
use super::stream::{Arrival, Departure, Stream, StreamError, StreamReader, StreamWriter};

/// Pieces of data that may wait in a stream, of at most [`PIECE`] bytes.
const WAITING_PIECES: usize = 8;
const PIECE: usize = 32 << 10;
const WAITING_DEPARTURES: usize = 32;
const WAITING_STREAMS: usize = 16;
/// Streams that a peer may have open at once.
const MOST_STREAMS: usize = 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Who this end is: it decides whose stream numbers are odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// An open connection. Dropping it ends it, once what was written is sent.
#[derive(Debug)]
pub struct Connection {
    next_id: AtomicU32,
    opening: tokio::sync::Mutex<()>,
    streams: Streams,
    departures: mpsc::Sender<Departure>,
    reader: JoinHandle<()>,
}

/// The streams that the peer opens.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<Stream>,
}

type Streams = Arc<Mutex<HashMap<u32, Entry>>>;

#[derive(Debug)]
struct Entry {
    arrivals: mpsc::Sender<Arrival>,
    /// Who waits for the reply to a stream that we opened.
    reply: Option<oneshot::Sender<Result<(), StreamError>>>,
}

impl Connection {
    /// Starts the protocol on a byte stream that is already upgraded.
    pub fn start<IO>(io: IO, side: Side) -> (Self, Incoming)
    where
        IO: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let (departures, departing) = mpsc::channel(WAITING_DEPARTURES);
        let (arrived, incoming) = mpsc::channel(WAITING_STREAMS);
        let streams = Streams::default();
        tokio::spawn(async move {
            if let Err(error) = write_all(write, departing).await {
                debug!(%error, "a SPDY connection ended while writing");
            }
        });
        let reading = Reading { streams: streams.clone(), departures: departures.clone(), arrived, side };
        let reader = tokio::spawn(reading.run(read));
        let next_id = AtomicU32::new(if side == Side::Client { 1 } else { 2 });
        let opening = tokio::sync::Mutex::new(());
        (Self { next_id, opening, streams, departures, reader }, Incoming { streams: incoming })
    }

    /// Opens a stream, and waits until the peer took it: the Go peer drops data that comes before its reply.
    ///
    /// # Errors
    /// Refused, unanswered, or the connection is lost.
    pub async fn open(&self, headers: Headers) -> Result<Stream, StreamError> {
        let (answer, answered) = oneshot::channel();
        let stream = self.begin(headers, answer).await?;
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(Ok(()))) => Ok(stream),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_dropped)) => Err(StreamError::Lost),
            Err(_elapsed) => {
                self.streams.lock().remove(&stream.writer.stream);
                Err(StreamError::Unanswered)
            }
        }
    }

    async fn begin(
        &self,
        headers: Headers,
        answer: oneshot::Sender<Result<(), StreamError>>,
    ) -> Result<Stream, StreamError> {
        // Numbers must rise on the wire, so numbering and queueing are one step.
        let _turn = self.opening.lock().await;
        let id = self.next_id.fetch_add(2, Ordering::Relaxed);
        let stream = register(&self.streams, id, headers.clone(), Some(answer), &self.departures);
        let syn = Control::SynStream { stream: id, fin: false, headers };
        if self.departures.send(Departure::Control(syn)).await.is_err() {
            self.streams.lock().remove(&id);
            return Err(StreamError::Lost);
        }
        Ok(stream)
    }

    /// Tells the peer that this end goes away; open streams may still finish.
    pub async fn go_away(&self) {
        // A lost connection needs no goodbye.
        let _ = self.departures.send(Departure::Control(Control::GoAway)).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.streams.lock().clear();
    }
}

impl Incoming {
    /// The next stream that the peer opens (already answered); `None` once the connection ended.
    pub async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

fn register(
    streams: &Streams,
    id: u32,
    headers: Headers,
    reply: Option<oneshot::Sender<Result<(), StreamError>>>,
    departures: &mpsc::Sender<Departure>,
) -> Stream {
    let (sender, arrivals) = mpsc::channel(WAITING_PIECES);
    streams.lock().insert(id, Entry { arrivals: sender, reply });
    let writer = StreamWriter { stream: id, departures: departures.clone(), closed: false };
    Stream { headers, reader: StreamReader { arrivals, ended: false }, writer }
}

async fn write_all(
    mut io: impl AsyncWrite + Unpin,
    mut departing: mpsc::Receiver<Departure>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut deflater = Deflater::new()?;
    while let Some(departure) = departing.recv().await {
        match departure {
            Departure::Control(frame) => io.write_all(&frame.encode(&mut deflater)?).await?,
            Departure::Data { stream, fin, data } => {
                let mut frame = BytesMut::with_capacity(HEAD + data.len());
                frame.extend_from_slice(&data_head(stream, fin, data.len()));
                frame.extend_from_slice(&data);
                io.write_all(&frame).await?;
            }
        }
        if departing.is_empty() {
            io.flush().await?;
        }
    }
    io.shutdown().await?;
    Ok(())
}

/// The reading task's own.
struct Reading {
    streams: Streams,
    departures: mpsc::Sender<Departure>,
    arrived: mpsc::Sender<Stream>,
    side: Side,
}

impl Reading {
    async fn run(self, mut io: impl AsyncRead + Unpin) {
        if let Err(error) = self.read_all(&mut io).await {
            debug!(%error, "a SPDY connection ended while reading");
        }
        // Readers see their queues end, which without a FIN before means "lost".
        self.streams.lock().clear();
    }

    async fn read_all(&self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut inflater = Inflater::new();
        loop {
            let mut head = [0; HEAD];
            match io.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            };
            match Head::parse(head).map_err(io::Error::other)? {
                Head::Data { stream, fin, length } => self.read_data(io, stream, fin, length).await?,
                Head::Control { kind, fin, length } => {
                    let mut payload = vec![0; length];
                    io.read_exact(&mut payload).await?;
                    let frame = Control::parse(kind, fin, &payload, &mut inflater).map_err(io::Error::other)?;
                    self.control(frame).await?;
                }
            }
        }
    }

    async fn read_data(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        stream: u32,
        fin: bool,
        mut left: usize,
    ) -> io::Result<()> {
        while left > 0 {
            let mut piece = BytesMut::zeroed(left.min(PIECE));
            io.read_exact(&mut piece).await?;
            left -= piece.len();
            self.deliver(stream, Arrival::Data(piece.freeze())).await;
        }
        if fin {
            self.end(stream, Arrival::Fin).await;
        }
        Ok(())
    }

    async fn control(&self, frame: Control) -> io::Result<()> {
        match frame {
            Control::SynStream { stream, fin, headers } => self.accept(stream, fin, headers).await,
            Control::SynReply { stream, fin } => {
                self.answer(stream, Ok(()));
                self.end_if(fin, stream).await;
                Ok(())
            }
            Control::MoreHeaders { stream, fin } => {
                self.end_if(fin, stream).await;
                Ok(())
            }
            Control::Reset { stream, status } => {
                self.answer(stream, Err(StreamError::Reset(status)));
                self.end(stream, Arrival::Reset(status)).await;
                Ok(())
            }
            // A ping of ours would have our parity; we send none.
            Control::Ping(id) if (id % 2 == 1) != (self.side == Side::Client) => self.depart(Control::Ping(id)).await,
            Control::Ping(_) | Control::GoAway | Control::Ignored => Ok(()),
        }
    }

    async fn accept(&self, id: u32, fin: bool, headers: Headers) -> io::Result<()> {
        let theirs = id != 0 && id.is_multiple_of(2) == (self.side == Side::Client);
        let (known, count) = {
            let streams = self.streams.lock();
            (streams.contains_key(&id), streams.len())
        };
        if !theirs || known || count >= MOST_STREAMS || self.arrived.is_closed() {
            return self.depart(Control::Reset { stream: id, status: REFUSED_STREAM }).await;
        }
        let stream = register(&self.streams, id, headers, None, &self.departures);
        self.depart(Control::SynReply { stream: id, fin: false }).await?;
        self.end_if(fin, id).await;
        // Nobody takes streams any more: dropping this one closes it.
        let _ = self.arrived.send(stream).await;
        Ok(())
    }

    fn answer(&self, stream: u32, answer: Result<(), StreamError>) {
        let waiting = self.streams.lock().get_mut(&stream).and_then(|entry| entry.reply.take());
        if let Some(waiting) = waiting {
            // Whoever opened it may have given up.
            let _ = waiting.send(answer);
        }
    }

    async fn end_if(&self, fin: bool, stream: u32) {
        if fin {
            self.end(stream, Arrival::Fin).await;
        }
    }

    /// The peer sends no more on this stream, so nothing needs to find it again.
    async fn end(&self, stream: u32, last: Arrival) {
        self.deliver(stream, last).await;
        self.streams.lock().remove(&stream);
    }

    async fn deliver(&self, stream: u32, arrival: Arrival) {
        let to = self.streams.lock().get(&stream).map(|entry| entry.arrivals.clone());
        if let Some(to) = to {
            // A stream that nobody reads any more loses its data; the others go on.
            let _ = to.send(arrival).await;
        }
    }

    async fn depart(&self, frame: Control) -> io::Result<()> {
        self.departures.send(Departure::Control(frame)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
