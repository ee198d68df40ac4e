//! Joining a container's own process.

use bytes::Bytes;
use pintle_cri::streaming::spdy::{Connection, Headers, Side, Stream, StreamReader};
use pintle_cri::v1::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::machine::{Machine, possible, shell};

#[tokio::test(flavor = "multi_thread")]
async fn one_who_attaches_talks_with_the_container_whose_input_ends_with_them() {
    if !possible() {
        return;
    }
    let machine = Machine::start().await;
    let sandbox = machine.sandbox("talk").await;
    let script = "while read word; do echo got $word; done; echo end";
    let config = ContainerConfig { stdin: true, stdin_once: true, ..shell("main", script) };
    let id = machine.create_as(&sandbox, config).await.unwrap();
    machine.runtime.clone().start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    let request = AttachRequest { container_id: id.clone(), stdin: true, stdout: true, ..Default::default() };
    let url = machine.runtime.clone().attach(request).await.unwrap().into_inner().url;
    let connection = upgrade(&url).await;
    let error = open(&connection, "error").await;
    let (mut stdin, stdout) = (open(&connection, "stdin").await, open(&connection, "stdout").await);
    stdin.writer.send(Bytes::from_static(b"one\ntwo\n")).await.unwrap();
    stdin.writer.finish().await.unwrap();
    assert_eq!(all(stdout.reader).await, "got one\ngot two\nend\n");
    assert!(all(error.reader).await.contains("Success"));
    assert_eq!(machine.ended(&id).await.exit_code, 0);
    assert_eq!(machine.log("main"), ["stdout F got one", "stdout F got two", "stdout F end"]);
}

async fn upgrade(url: &str) -> Connection {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    Connection::start(socket, Side::Client).0
}

async fn open(connection: &Connection, kind: &str) -> Stream {
    connection.open(Headers::default().with("streamtype", kind)).await.unwrap()
}

async fn all(mut reader: StreamReader) -> String {
    let mut text = String::new();
    while let Ok(Some(data)) = reader.next().await {
        text.push_str(&String::from_utf8_lossy(&data));
    }
    text
}
