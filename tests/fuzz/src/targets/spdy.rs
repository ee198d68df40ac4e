//! SPDY from a peer that keeps no rule: the session ends, and nothing panics, hangs or grows.
//!
//! Must not know: frames' meaning beyond their form.

use std::io::Write as _;
use std::sync::Arc;

use pintle_cri::streaming::spdy::{Connection, Headers, Incoming, Side};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::ended;
use crate::{Dice, mutate};

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

pub(super) fn frame(dice: &mut Dice) -> Vec<u8> {
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

pub(super) fn frames(dice: &mut Dice, one: impl Fn(&mut Dice) -> Vec<u8>) -> Vec<u8> {
    let mut all: Vec<u8> = (0..dice.below(20)).flat_map(|_| one(dice)).collect();
    if dice.one_in(3) {
        mutate(&mut all, dice, 5);
    }
    all
}

/// Sends bytes, reads whatever comes back, and hangs up.
pub(super) async fn say(mut client: DuplexStream, bytes: Vec<u8>) {
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
pub(super) async fn serve(connection: Arc<Connection>, mut incoming: Incoming) {
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

async fn session(side: Side, bytes: Vec<u8>) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (connection, incoming) = Connection::start(server, side);
    let connection = Arc::new(connection);
    let opener = connection.clone();
    let opening = async move {
        if side == Side::Client {
            // nobody may answer
            let _ = opener.open(Headers::default().with("streamtype", "stdin")).await;
        }
    };
    tokio::join!(opening, serve(connection, incoming), say(client, bytes));
}

pub(super) fn sessions_end(dice: &mut Dice) {
    let bytes = frames(dice, frame);
    let side = if dice.one_in(3) { Side::Client } else { Side::Server };
    ended("a session", session(side, bytes));
}
