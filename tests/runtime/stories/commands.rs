//! Commands in containers, attachments and forwarded ports.
//!
//! Must not know: how pods are made.

use bytes::Bytes;
use futures::FutureExt as _;
use pintle_cri::streaming::spdy::{Connection, Headers, Side, StreamReader};
use pintle_cri::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Story;
use crate::node::Node;
use crate::pods::{container_config, on_host_network, pod_config};

pub const STORIES: &[(&str, Story)] = &[
    ("a_command_gives_its_output_and_code_within_its_time", |node| exec_sync(node).boxed_local()),
    ("a_command_takes_input_and_a_url_is_good_once", |node| exec(node).boxed_local()),
    ("a_terminal_has_a_size", |node| terminal(node).boxed_local()),
    ("one_who_attaches_talks_with_the_container", |node| attach(node).boxed_local()),
    ("a_port_of_the_pod_is_forwarded", |node| forward(node).boxed_local()),
];

async fn exec_sync(node: &mut Node) {
    let pod = node.run_pod(on_host_network(pod_config("exec"))).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    let done = node.exec(&id, "echo out; echo err >&2; exit 5").await;
    assert_eq!((&done.stdout[..], &done.stderr[..], done.exit_code), (&b"out\n"[..], &b"err\n"[..], 5));
    let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: vec!["sleep".into(), "77".into()], timeout: 1 };
    assert_eq!(node.cri().exec_sync(request).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    node.until("the command is killed", async || !node.output(&id, "ps -o args").await.contains("sleep 77")).await;
    let much = node.exec(&id, "head -c 20000000 /dev/zero").await;
    assert!((15 << 20..=16 << 20).contains(&much.stdout.len()), "{}", much.stdout.len());
    let request = v1::ExecSyncRequest { container_id: id, cmd: vec!["/no/such".into()], timeout: 5 };
    let error = node.cri().exec_sync(request).await.unwrap_err();
    assert!(error.message().contains("no such file"), "{error:?}");
    node.remove_pod(&pod).await;
}

async fn exec(node: &mut Node) {
    let pod = node.run_pod(on_host_network(pod_config("stdin"))).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    let cmd = ["sh", "-c", "cat; echo err >&2; exit 9"].map(str::to_owned).to_vec();
    let request = v1::ExecRequest { container_id: id, cmd, stdin: true, stdout: true, stderr: true, tty: false };
    let url = node.cri().exec(request).await.expect("a URL").into_inner().url;
    let connection = upgrade(&url, "v4.channel.k8s.io").await.expect("an upgrade");
    let error = open(&connection, "error").await;
    let mut stdin = open(&connection, "stdin").await;
    let (stdout, stderr) = (open(&connection, "stdout").await, open(&connection, "stderr").await);
    stdin.writer.send(Bytes::from_static(b"hello")).await.expect("input");
    stdin.writer.finish().await.expect("its end");
    assert_eq!(all(stdout.reader).await, "hello");
    assert_eq!(all(stderr.reader).await, "err\n");
    let status = all(error.reader).await;
    assert!(status.contains("NonZeroExitCode") && status.contains("\"9\""), "{status}");
    assert!(upgrade(&url, "v4.channel.k8s.io").await.is_none(), "a URL was good twice");
    node.remove_pod(&pod).await;
}

async fn terminal(node: &mut Node) {
    let pod = node.run_pod(on_host_network(pod_config("tty"))).await;
    let id = node.run(&pod, "main", "sleep 1000").await;
    let cmd = ["sh", "-c", "read go; stty size"].map(str::to_owned).to_vec();
    let request = v1::ExecRequest { container_id: id, cmd, stdin: true, stdout: true, stderr: false, tty: true };
    let url = node.cri().exec(request).await.expect("a URL").into_inner().url;
    let connection = upgrade(&url, "v4.channel.k8s.io").await.expect("an upgrade");
    let error = open(&connection, "error").await;
    let (mut stdin, stdout) = (open(&connection, "stdin").await, open(&connection, "stdout").await);
    let mut resize = open(&connection, "resize").await;
    resize.writer.send(Bytes::from_static(br#"{"Width":123,"Height":45}"#)).await.expect("a size");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    stdin.writer.send(Bytes::from_static(b"go\n")).await.expect("input");
    let shown = all(stdout.reader).await;
    assert!(shown.contains("45 123"), "{shown:?}");
    assert!(all(error.reader).await.contains("Success"));
    node.remove_pod(&pod).await;
}

async fn attach(node: &mut Node) {
    let pod = node.run_pod(on_host_network(pod_config("attach"))).await;
    let mut config = container_config(node, &pod, "main", "while read line; do echo got $line; done; echo end");
    (config.stdin, config.stdin_once) = (true, true);
    let id = node.create(&pod, config).await;
    node.start_container(&id).await.expect("a start");
    let request = v1::AttachRequest { container_id: id, stdin: true, stdout: true, ..Default::default() };
    let url = node.cri().attach(request).await.expect("a URL").into_inner().url;
    let connection = upgrade(&url, "v4.channel.k8s.io").await.expect("an upgrade");
    let error = open(&connection, "error").await;
    let (mut stdin, stdout) = (open(&connection, "stdin").await, open(&connection, "stdout").await);
    stdin.writer.send(Bytes::from_static(b"one\ntwo\n")).await.expect("input");
    stdin.writer.finish().await.expect("its end");
    assert_eq!(all(stdout.reader).await, "got one\ngot two\nend\n");
    assert!(all(error.reader).await.contains("Success"));
    assert!(node.container_log(&pod, "main").contains("stdout F got two\n"));
    node.remove_pod(&pod).await;
}

async fn forward(node: &mut Node) {
    let pod = node.run_pod(pod_config("forward")).await;
    node.run(&pod, "main", "while :; do echo answer | nc -l -p 8080; done").await;
    let request = v1::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![8080] };
    let url = node.cri().port_forward(request).await.expect("a URL").into_inner().url;
    let connection = upgrade(&url, "portforward.k8s.io").await.expect("an upgrade");
    let stream = async |kind: &str, request: usize, port: u16| {
        let headers = Headers::default().with("streamtype", kind).with("port", port.to_string());
        connection.open(headers.with("requestid", request.to_string())).await.expect("a stream")
    };
    let mut request = 0;
    loop {
        request += 1;
        let (error, data) = (stream("error", request, 8080).await, stream("data", request, 8080).await);
        let _ = tokio::join!(all(error.reader), async { assert!(request < 100, "nobody listens") });
        if all(data.reader).await == "answer\n" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (error, _data) = (stream("error", 1000, 81).await, stream("data", 1000, 81).await);
    let refusal = all(error.reader).await;
    assert!(refusal.contains("port 81") && refusal.contains("refused"), "{refusal}");
    node.remove_pod(&pod).await;
}

/// Speaks SPDY with the server behind a URL; `None` when it refuses.
async fn upgrade(url: &str, protocol: &str) -> Option<Connection> {
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let mut socket = TcpStream::connect(host).await.expect("a connection");
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.expect("an answer"));
    }
    answer.starts_with(b"HTTP/1.1 101").then(|| Connection::start(socket, Side::Client).0)
}

async fn open(connection: &Connection, kind: &str) -> pintle_cri::streaming::spdy::Stream {
    connection.open(Headers::default().with("streamtype", kind)).await.expect("a stream")
}

async fn all(mut reader: StreamReader) -> String {
    let mut text = String::new();
    while let Ok(Some(data)) = reader.next().await {
        text.push_str(&String::from_utf8_lossy(&data));
    }
    text
}
