//! Port-forward for a WebSocket client: as raw SPDY tunnelled in messages (kubectl since 1.31), or in the older way of
//! two channels per port, translated to SPDY streams.
//!
//! Must not know: how either connection came about.

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::spdy::{Connection, Headers, StreamError, StreamReader, StreamWriter};
use super::websocket::{self, Framing, Outgoing};

/// The subprotocol of the tunnel.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The subprotocol inside it, and of SPDY clients.
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// The older subprotocols, by name; the empty name is a client that offers none.
pub const PROTOCOLS: [(&str, Framing); 3] =
    [("v4.channel.k8s.io", Framing::Binary), ("v4.base64.channel.k8s.io", Framing::Base64), ("", Framing::Binary)];
/// Two channels each, in one byte, of which the last is taken.
pub const MOST_PORTS: usize = 127;
const PIECE: usize = 32 << 10;

/// Carries bytes between messages and a byte stream until either side ends.
pub async fn tunnel<A, B>(socket: WebSocketStream<A>, runtime: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(runtime);
    let up = async {
        let mut taken = true;
        while let Some(Ok(message)) = source.next().await {
            match message {
                // a runtime that takes no more may still have something to say
                Message::Binary(data) => taken = taken && write.write_all(&data).await.is_ok(),
                Message::Ping(_) | Message::Pong(_) => {}
                _ => break,
            }
        }
    };
    let down = async {
        let mut piece = BytesMut::with_capacity(PIECE);
        while read.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
            if sink.send(Message::Binary(piece.split().freeze())).await.is_err() {
                return;
            }
            piece.reserve(PIECE);
        }
        // The client may have gone first.
        let _ = sink.send(Message::Close(None)).await;
    };
    let ended_here = tokio::select! { () = up => false, () = down => true };
    // The other end of a dropped connection sees it anyway.
    let _ = write.shutdown().await;
    if ended_here {
        websocket::until_closed(&mut source).await;
    }
}

/// Serves the older way: channel `2i` carries the data of the i-th port, `2i + 1` its error; each begins with the port.
pub async fn serve<IO>(socket: WebSocketStream<IO>, framing: Framing, runtime: Connection, ports: Vec<u16>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, mut source) = socket.split();
    let (client, write) = websocket::outgoing(sink, framing);
    let session = async move {
        let mut writers = Vec::new();
        let mut forwards = Vec::new();
        for (channel, port) in (0u8..).step_by(2).zip(ports) {
            let opened = begin(&runtime, &client, channel, port).await;
            let (data, error, writer) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    let text = format!("error forwarding port {port}: {error}");
                    // Without a client there is nobody to tell.
                    let _ = client.send(channel + 1, text.as_bytes()).await;
                    writers.push(None);
                    continue;
                }
            };
            writers.push(Some(writer));
            forwards.push(forward(data, error, &client, channel));
        }
        tokio::select! {
            () = take_input(&mut source, framing, writers) => {}
            _ = join_all(forwards) => {}
        }
        drop(client);
        runtime.go_away().await;
        drop(runtime);
        websocket::until_closed(&mut source).await;
    };
    tokio::join!(session, write);
}

async fn begin(
    runtime: &Connection,
    client: &Outgoing,
    channel: u8,
    port: u16,
) -> Result<(StreamReader, StreamReader, StreamWriter), StreamError> {
    for channel in [channel, channel + 1] {
        client.send(channel, &port.to_le_bytes()).await.map_err(|_| StreamError::Lost)?;
    }
    let headers = |kind: &str| {
        let headers = Headers::default().with("streamtype", kind).with("port", port.to_string());
        headers.with("requestid", channel.to_string())
    };
    let mut error = runtime.open(headers("error")).await?;
    error.writer.finish().await?;
    let data = runtime.open(headers("data")).await?;
    Ok((data.reader, error.reader, data.writer))
}

async fn forward(data: StreamReader, error: StreamReader, client: &Outgoing, channel: u8) {
    tokio::join!(copy(data, client, channel), copy(error, client, channel + 1));
}

async fn copy(mut from: StreamReader, client: &Outgoing, channel: u8) {
    while let Ok(Some(data)) = from.next().await {
        if client.send(channel, &data).await.is_err() {
            return;
        }
    }
}

async fn take_input<IO>(
    source: &mut SplitStream<WebSocketStream<IO>>,
    framing: Framing,
    mut writers: Vec<Option<StreamWriter>>,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, data)) = websocket::next(source, framing).await {
        if channel % 2 == 0 {
            pass(writers.get_mut(usize::from(channel / 2)), data).await;
        }
    }
}

/// A port whose stream fails takes no more; the others go on.
async fn pass(writer: Option<&mut Option<StreamWriter>>, data: Bytes) {
    if let Some(slot) = writer
        && let Some(writer) = slot
        && writer.send(data).await.is_err()
    {
        *slot = None;
    }
}
