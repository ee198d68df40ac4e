//! WebSocket as Kubernetes uses it: the handshake with its subprotocols, and messages that begin with a channel number.
//!
//! Must not know: what the channels mean.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::bridge::{Answer, plain};

/// kubectl sends 32 KiB at a time; other clients may send larger messages, but not endless ones.
const LARGEST_MESSAGE: usize = 4 << 20;
/// Messages that may wait for a slow client.
const WAITING: usize = 16;
/// A client that was told the end closes within this time, in which it also reads what is still on its way.
const CLOSES_WITHIN: Duration = Duration::from_secs(30);

/// How a channel number and its bytes make a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One byte of channel, then the data.
    Binary,
    /// A digit, then the data in base64, as text.
    Base64,
}

/// Whether a request asks for WebSocket.
pub fn asked(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The subprotocols that a client offers, in its order.
pub fn offered(headers: &HeaderMap) -> Vec<&str> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// The answer that accepts a handshake with this subprotocol (none when empty), or refuses a broken one.
///
/// # Errors
/// The answer to give instead.
pub fn accept(headers: &HeaderMap, subprotocol: &str) -> Result<Answer, Box<Answer>> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Box::new(plain(StatusCode::BAD_REQUEST, "WebSocket version 13 is needed")));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| plain(StatusCode::BAD_REQUEST, "the WebSocket handshake has no key"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let mut answer = Response::new(Default::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.extend(accept.ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
    if !subprotocol.is_empty() {
        headers.extend(HeaderValue::from_str(subprotocol).ok().map(|name| (SEC_WEBSOCKET_PROTOCOL, name)));
    }
    Ok(answer)
}

/// Speaks WebSocket as the server on an upgraded connection.
pub async fn start<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> WebSocketStream<IO> {
    let config =
        WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE)).max_frame_size(Some(LARGEST_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Where messages to a client are queued. When the last clone is dropped, the socket is closed in order.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: mpsc::Sender<Message>,
    framing: Framing,
}

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl Outgoing {
    pub async fn send(&self, channel: u8, data: &[u8]) -> Result<(), Gone> {
        self.queue.send(frame(self.framing, channel, data)).await.map_err(|_| Gone)
    }
}

/// A queue of messages, and the future that writes them out.
pub fn outgoing<IO: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<IO>, Message>,
    framing: Framing,
) -> (Outgoing, impl Future<Output = ()>) {
    let (queue, mut waiting) = mpsc::channel(WAITING);
    let write = async move {
        while let Some(message) = waiting.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let normal = CloseFrame { code: CloseCode::Normal, reason: Default::default() };
        // The client may have closed first.
        let _ = sink.send(Message::Close(Some(normal))).await;
        let _ = sink.close().await;
    };
    (Outgoing { queue, framing }, write)
}

/// The next message with its channel; `None` once the client closed or broke the protocol. Safe to cancel.
pub async fn next<S, E>(source: &mut S, framing: Framing) -> Option<(u8, Bytes)>
where
    S: StreamExt<Item = Result<Message, E>> + Unpin,
{
    loop {
        let message = match source.next().await? {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_ping) => continue,
        };
        if let Some(read) = read(framing, message) {
            return Some(read);
        }
    }
}

/// Reads on after an end that we told, until the client closes too: dropped with something unread, a connection is reset,
/// and what was written last may never arrive.
pub async fn until_closed<S, E>(source: &mut S)
where
    S: StreamExt<Item = Result<Message, E>> + Unpin,
{
    let closing = async { while let Some(Ok(_)) = source.next().await {} };
    // one that does not close is let go
    let _ = tokio::time::timeout(CLOSES_WITHIN, closing).await;
}

fn frame(framing: Framing, channel: u8, data: &[u8]) -> Message {
    match framing {
        Framing::Binary => {
            let mut message = BytesMut::with_capacity(data.len() + 1);
            message.put_u8(channel);
            message.put_slice(data);
            Message::Binary(message.freeze())
        }
        Framing::Base64 => {
            let mut text = String::from(char::from(b'0'.saturating_add(channel)));
            STANDARD.encode_string(data, &mut text);
            Message::Text(text.into())
        }
    }
}

/// `None` for an empty message and for broken base64: upstream ignores both.
fn read(framing: Framing, mut message: Bytes) -> Option<(u8, Bytes)> {
    if message.is_empty() {
        return None;
    }
    let channel = message.split_to(1).first().copied()?;
    match framing {
        Framing::Binary => Some((channel, message)),
        Framing::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(&message).ok()?.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subprotocols_come_from_every_header_line() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io, v4.channel.k8s.io".parse().unwrap());
        headers.append(SEC_WEBSOCKET_PROTOCOL, "channel.k8s.io".parse().unwrap());
        assert_eq!(offered(&headers), ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]);
    }

    #[test]
    fn a_handshake_without_a_key_is_a_bad_request() {
        let mut headers = HeaderMap::new();
        assert_eq!(accept(&headers, "").unwrap_err().status(), StatusCode::BAD_REQUEST);
        headers.insert(SEC_WEBSOCKET_VERSION, "13".parse().unwrap());
        assert_eq!(accept(&headers, "").unwrap_err().status(), StatusCode::BAD_REQUEST);
        headers.insert(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        let answer = accept(&headers, "v5.channel.k8s.io").unwrap();
        assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    }

    proptest! {
        #[test]
        fn messages_survive_both_framings(channel in 0u8..5, data in proptest::collection::vec(any::<u8>(), 0..99)) {
            for framing in [Framing::Binary, Framing::Base64] {
                let message = frame(framing, channel, &data).into_data();
                prop_assert_eq!(read(framing, message), Some((channel, Bytes::from(data.clone()))));
            }
        }

        #[test]
        fn garbage_is_ignored(data in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = read(Framing::Base64, Bytes::from(data));
        }
    }
}
