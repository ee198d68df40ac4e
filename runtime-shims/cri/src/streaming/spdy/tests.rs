//! Two ends of ours, talking over a pipe.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn pair() -> ((Connection, Incoming), (Connection, Incoming)) {
    let (a, b) = tokio::io::duplex(1 << 16);
    (Connection::start(a, Side::Client), Connection::start(b, Side::Server))
}

async fn read_all(reader: &mut StreamReader) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test]
async fn a_half_closed_stream_still_carries_the_answer() {
    let ((client, _none), (_server, mut incoming)) = pair();
    let echo = tokio::spawn(async move {
        let mut stream = incoming.next().await.unwrap();
        assert_eq!(stream.headers.get("streamType"), Some("stdin"));
        let heard = read_all(&mut stream.reader).await.unwrap();
        stream.writer.send(Bytes::from(heard)).await.unwrap();
        stream.writer.finish().await.unwrap();
    });
    let mut stream = client.open(Headers::default().with("streamType", "stdin")).await.unwrap();
    let sent = vec![7; 1 << 20];
    let sending = async {
        stream.writer.send(Bytes::from(sent.clone())).await.unwrap();
        stream.writer.finish().await.unwrap();
    };
    let (heard, ()) = tokio::join!(read_all(&mut stream.reader), sending);
    assert_eq!(heard.unwrap(), sent);
    echo.await.unwrap();
}

#[tokio::test]
async fn losing_the_connection_is_not_an_orderly_end() {
    let ((client, _none), (server, mut incoming)) = pair();
    let mut stream = client.open(Headers::default()).await.unwrap();
    let theirs = incoming.next().await.unwrap();
    drop((server, incoming));
    std::mem::forget(theirs.writer);
    drop(theirs.reader);
    drop(client);
    assert_eq!(stream.reader.next().await, Err(StreamError::Lost));
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_refused() {
    let ((client, _none), (_server, incoming)) = pair();
    drop(incoming);
    assert_eq!(client.open(Headers::default()).await.unwrap_err(), StreamError::Reset(3));
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let ((client, _none), (_server, mut incoming)) = pair();
    let client = std::sync::Arc::new(client);
    let mut opened = tokio::task::JoinSet::new();
    for number in 0..50 {
        let client = client.clone();
        opened.spawn(async move {
            let mut stream = client.open(Headers::default().with("n", number.to_string())).await.unwrap();
            read_all(&mut stream.reader).await.unwrap() == number.to_string().as_bytes()
        });
    }
    for _ in 0..50 {
        let mut stream = incoming.next().await.unwrap();
        let number = stream.headers.get("n").unwrap().to_owned();
        stream.writer.send(Bytes::from(number)).await.unwrap();
    }
    assert!(opened.join_all().await.into_iter().all(|same| same));
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let (mut wire, end) = tokio::io::duplex(1 << 16);
    let (_connection, mut incoming) = Connection::start(end, Side::Server);
    wire.write_all(&[0x80, 3, 0, 1, 0, 0, 0, 30]).await.unwrap();
    wire.write_all(&[0xab; 30]).await.unwrap();
    assert!(incoming.next().await.is_none());
}

#[tokio::test]
async fn pings_of_the_peer_are_answered() {
    let (mut wire, end) = tokio::io::duplex(1 << 16);
    let _server = Connection::start(end, Side::Server);
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    wire.write_all(&ping).await.unwrap();
    let mut answer = [0; 12];
    wire.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ping);
}
