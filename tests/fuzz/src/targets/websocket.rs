//! Upgraded sessions, WebSocket above all, from clients that keep no rule: they end, and nothing panics, hangs or grows.
//!
//! Must not know: frames' meaning beyond their form.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pintle_cri::streaming::bridge::{Session, Streams, accept_here};
use tokio::io::DuplexStream;

use super::ended;
use super::spdy::{frame, frames, say, serve};
use crate::{Dice, mutate};

const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "portforward.k8s.io"];

/// A WebSocket's frame as clients send them, and as they must not.
fn web_frame(dice: &mut Dice) -> Vec<u8> {
    let first =
        if dice.one_in(6) { dice.number() as u8 } else { *dice.choose(&[0x82, 0x82, 0x81, 0x02, 0x80, 0x88, 0x89]) };
    let channel = *dice.choose(&[0, 0, 1, 2, 3, 4, 255, 48, 7]);
    let payload = match dice.below(4) {
        0 => b"\x04{\"Width\":80,\"Height\":24}".to_vec(),
        1 => vec![255, channel],
        _ => [vec![channel], dice.bytes(300)].concat(),
    };
    let length = if dice.one_in(20) { dice.odd_number() } else { payload.len() as u64 };
    let masked = if dice.one_in(20) { 0 } else { 0x80_u8 };
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(masked | length as u8),
        126..=65_535 => frame.extend([&[masked | 126][..], &(length as u16).to_be_bytes()].concat()),
        _ => frame.extend([&[masked | 127][..], &length.to_be_bytes()].concat()),
    }
    if masked != 0 {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

fn head(dice: &mut Dice) -> String {
    if dice.one_in(4) {
        let protocol = *dice.choose(&["v4.channel.k8s.io", "portforward.k8s.io", "v9", ""]);
        return format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
    }
    let protocol = *dice.choose(&[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "base64.channel.k8s.io",
        "SPDY/3.1+portforward.k8s.io",
        "",
    ]);
    let protocol = if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
    format!(
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    )
}

fn session(dice: &mut Dice) -> Session {
    if dice.one_in(3) {
        return Session::PortForward { ports: vec![80, 81] };
    }
    Session::Command(Streams { stdin: true, stdout: true, stderr: dice.one_in(2), tty: dice.one_in(3) })
}

/// The streaming server of a runtime, for one client.
async fn serve_http(server: DuplexStream, session: Session) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let answered = match accept_here(request, session.clone(), PROTOCOLS) {
            Err(refusal) => *refusal,
            Ok(local) => {
                tokio::spawn(async move {
                    if let Some((connection, incoming)) = local.streams.await {
                        serve(Arc::new(connection), incoming).await;
                    }
                });
                local.answer
            }
        };
        std::future::ready(Ok::<Response<http_body_util::Full<Bytes>>, Infallible>(answered))
    });
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(server), service).with_upgrades().await;
}

pub(super) fn sessions_end(dice: &mut Dice) {
    let head = head(dice);
    let frames = if head.starts_with("GET") && !head.contains("SPDY/3.1+") {
        frames(dice, web_frame)
    } else {
        frames(dice, frame)
    };
    let mut bytes = [head.into_bytes(), frames].concat();
    if dice.one_in(12) {
        mutate(&mut bytes, dice, 3);
    }
    let session = session(dice);
    let both = async {
        let (client, server) = tokio::io::duplex(1 << 16);
        tokio::join!(serve_http(server, session), say(client, bytes));
    };
    ended("a session", both);
}
