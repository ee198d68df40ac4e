//! A log as WebSocket messages: `binary.k8s.io` (the default) or, as text, `base64.binary.k8s.io`.
//! Source: `k8s.io/streaming/pkg/httpstream/wsstream/stream.go`.
//!
//! Must not know: what the bytes are, or where they come from.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pintle_api::status::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::body::Body;

/// A client that was told the end closes within this time, in which it also reads what is still on its way.
const CLOSES_WITHIN: Duration = Duration::from_secs(30);

/// How bytes become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Base64,
}

/// Whether the client asks for messages.
pub fn asked(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The first protocol that is known, of those that the client names; its name is empty where it names none.
fn chosen(headers: &HeaderMap) -> Option<(String, Form)> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let mut offered = lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()).peekable();
    if offered.peek().is_none() {
        return Some((String::new(), Form::Binary));
    }
    offered.find_map(|name| match name {
        "binary.k8s.io" => Some((name.to_owned(), Form::Binary)),
        "base64.binary.k8s.io" => Some((name.to_owned(), Form::Base64)),
        _ => None,
    })
}

/// The answer that begins the messages; `body` is sent once the client's connection is theirs.
pub fn answer(headers: &HeaderMap, near: OnUpgrade, body: Incoming) -> Result<Response<Body>, Status> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Status::bad_request("missing or bad WebSocket Version"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Status::bad_request("challenge/response mismatch"))?;
    let (name, form) = chosen(headers).ok_or_else(|| {
        let why = "requested protocol(s) are not supported: supports [ binary.k8s.io base64.binary.k8s.io]";
        Status::new(403, "Forbidden", why)
    })?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Status::internal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let answered = response.headers_mut();
    answered.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !name.is_empty() {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&name).map_err(Status::internal)?);
    }
    tokio::spawn(async move {
        if let Err(error) = speak(near, body, form).await {
            tracing::debug!(%error, "a log over WebSocket ended");
        }
    });
    Ok(response)
}

/// An empty message first, which tells the client that there is a stream; what the client sends is not listened to.
async fn speak(near: OnUpgrade, mut body: Incoming, form: Form) -> anyhow::Result<()> {
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(near.await?), Role::Server, None).await;
    let (mut to, mut from) = socket.split();
    to.send(message(form, Bytes::new())).await?;
    loop {
        tokio::select! {
            frame = body.frame() => match frame.transpose()? {
                Some(frame) => if let Ok(data) = frame.into_data() {
                    to.send(message(form, data)).await?;
                },
                None => break,
            },
            said = from.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
        }
    }
    to.close().await?;
    // dropped with something unread, a connection is reset, and the log's end may be lost with it
    let closing = async { while let Some(Ok(_)) = from.next().await {} };
    let _ = tokio::time::timeout(CLOSES_WITHIN, closing).await;
    Ok(())
}

fn message(form: Form, data: Bytes) -> Message {
    match form {
        Form::Binary => Message::Binary(data),
        Form::Base64 => Message::Text(STANDARD.encode(data).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_names_a_protocol_or_none() {
        let choose = |text: &'static str| {
            chosen(&HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(text))]))
        };
        assert_eq!(chosen(&HeaderMap::new()), Some((String::new(), Form::Binary)));
        assert_eq!(choose("x, base64.binary.k8s.io").unwrap().1, Form::Base64);
        assert_eq!(choose("binary.k8s.io").unwrap().1, Form::Binary);
        assert_eq!(choose("channel.k8s.io"), None);
    }

    #[test]
    fn base64_is_text() {
        assert_eq!(message(Form::Base64, "hi\n".into()), Message::Text("aGkK".into()));
    }
}
