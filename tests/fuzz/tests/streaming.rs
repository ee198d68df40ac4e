//! SPDY and WebSocket from clients that keep no rule: the session ends, and nothing panics, hangs or grows.
//!
//! Must not know: frames' meaning beyond their form.

use std::convert::Infallible;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pintle_cri::streaming::bridge::{Session, Streams, accept_here};
use pintle_cri::streaming::spdy::{Connection, Headers, Side};
use pintle_fuzz::{Dice, mutate, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// A session that takes longer does not end.
const WITHIN: Duration = Duration::from_secs(20);
const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "portforward.k8s.io"];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A header block: numbers and texts, in a zlib stream that may lack its dictionary.
fn block(dice: &mut Dice) -> Vec<u8> {
    let pairs = [("streamtype", "stdin"), ("streamtype", "error"), ("port", "80"), ("requestid", "0"), ("", "")];
    let count = dice.below(4);
    let claimed = if dice.one_in(8) { dice.odd_number() as u32 } else { count as u32 };
    let mut plain = claimed.to_be_bytes().to_vec();
    for _ in 0..count {
        let (name, value) = *dice.choose(&pairs);
        for text in [name, value] {
            let length = if dice.one_in(12) { dice.odd_number() as u32 } else { text.len() as u32 };
            plain.extend_from_slice(&length.to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
    }
    if dice.one_in(30) {
        // a bomb
        plain.resize(8 << 20, 0);
    }
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&plain).unwrap();
    packed.finish().unwrap()
}

fn frame(dice: &mut Dice) -> Vec<u8> {
    let stream = if dice.one_in(8) { dice.odd_number() as u32 } else { dice.below(9) as u32 };
    let flags = *dice.choose(&[0, 0, 1, 2, 0xff]);
    let (head, payload) = if dice.one_in(2) {
        (stream & 0x7fff_ffff, dice.bytes(300))
    } else {
        let kind = *dice.choose(&[1_u32, 1, 1, 2, 3, 4, 6, 7, 8, 9, 77]);
        let payload = match kind {
            1 => [&stream.to_be_bytes()[..], &[0; 6], &block(dice)].concat(),
            2 | 8 => [&stream.to_be_bytes()[..], &block(dice)].concat(),
            3 => [stream.to_be_bytes(), (dice.number() as u32).to_be_bytes()].concat(),
            _ => [stream.to_be_bytes().to_vec(), dice.bytes(20)].concat(),
        };
        (0x8003_0000 | kind, payload)
    };
    let length = if dice.one_in(20) { dice.odd_number() as usize & 0xff_ffff } else { payload.len() };
    [&head.to_be_bytes()[..], &(u32::from(flags as u8) << 24 | length as u32).to_be_bytes(), &payload].concat()
}

fn frames(dice: &mut Dice, one: impl Fn(&mut Dice) -> Vec<u8>) -> Vec<u8> {
    let mut all: Vec<u8> = (0..dice.below(20)).flat_map(|_| one(dice)).collect();
    if dice.one_in(3) {
        mutate(&mut all, dice, 5);
    }
    all
}

/// Sends bytes, reads whatever comes back, and hangs up.
async fn say(mut client: DuplexStream, bytes: Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(&mut client);
    let writing = async {
        // the other side may hang up first
        let _ = write.write_all(&bytes).await;
        let _ = write.shutdown().await;
    };
    let reading = async {
        let mut sink = [0; 4096];
        while read.read(&mut sink).await.is_ok_and(|length| length > 0) {}
    };
    tokio::join!(writing, reading);
}

/// Takes every stream that the other side opens, and says back what comes.
async fn serve(connection: Connection, mut incoming: pintle_cri::streaming::spdy::Incoming) {
    while let Some(mut stream) = incoming.next().await {
        tokio::spawn(async move {
            while let Ok(Some(data)) = stream.reader.next().await {
                if stream.writer.send(data).await.is_err() {
                    return;
                }
            }
            let _ = stream.writer.finish().await;
        });
    }
    connection.go_away().await;
}

async fn spdy(side: Side, bytes: Vec<u8>) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (connection, incoming) = Connection::start(server, side);
    if side == Side::Client {
        let opening = async {
            let _ = connection.open(Headers::default().with("streamtype", "stdin")).await;
        };
        // nobody may answer
        let _ = tokio::time::timeout(Duration::from_millis(5), opening).await;
    }
    tokio::join!(serve(connection, incoming), say(client, bytes));
}

#[test]
fn spdy_sessions_end() {
    let tokio = runtime();
    run("SPDY", |dice| {
        let bytes = frames(dice, frame);
        let side = if dice.one_in(3) { Side::Client } else { Side::Server };
        let session = tokio.block_on(async { tokio::time::timeout(WITHIN, spdy(side, bytes)).await });
        session.expect("a session that does not end");
    });
}

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
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answered = match accept_here(request, session.clone(), PROTOCOLS) {
            Err(refusal) => *refusal,
            Ok(local) => {
                tokio::spawn(async move {
                    if let Some((connection, incoming)) = local.streams.await {
                        serve(connection, incoming).await;
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

#[test]
fn upgraded_sessions_end() {
    let tokio = runtime();
    run("WebSocket", |dice| {
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
        let ended = tokio.block_on(async { tokio::time::timeout(WITHIN, both).await });
        ended.expect("a session that does not end");
    });
}
