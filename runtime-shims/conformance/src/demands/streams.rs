//! Streams behind the URLs of exec, attach and port forwarding, over SPDY/3.1, which every runtime of CRI v1 speaks.
//!
//! Must not know: what commands do.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use pintle_cri::streaming::spdy::{Connection, Headers, Side, Stream, StreamReader};
use pintle_cri::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::demand;
use crate::bench::{Bench, command};
use crate::demand::{Demand, equal};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "exec/streams",
        "a command reads what is sent to it, its two streams come apart, and its exit code last",
        "runtime.v1 Exec.url; remotecommand v4.channel.k8s.io",
        streams
    ),
    demand!(
        "exec/attach",
        "one who attaches talks with the container's process, and the log has it too",
        "runtime.v1 Attach.url; ContainerConfig.stdin, stdin_once",
        attach
    ),
    demand!(
        "exec/port-forward",
        "a port of the pod is reached through the runtime",
        "runtime.v1 PortForward.url; portforward.k8s.io",
        port_forward
    ),
];

/// An answer's head is not longer.
const HEAD: usize = 8192;

async fn streams(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let id = bench.waiting(&pod).await?;
    let cmd = command(&["echo", "9"]);
    let request = v1::ExecRequest { container_id: id, cmd, stdin: true, stdout: true, stderr: true, tty: false };
    let url = bench.cri().exec(request).await?.into_inner().url;
    let connection = upgrade(&url, "v4.channel.k8s.io").await?;
    let (error, mut stdin) = (open(&connection, "error").await?, open(&connection, "stdin").await?);
    let (stdout, stderr) = (open(&connection, "stdout").await?, open(&connection, "stderr").await?);
    stdin.writer.send(Bytes::from_static(b"hello")).await?;
    stdin.writer.finish().await?;
    equal("stdout", all(stdout.reader).await.as_str(), "hello")?;
    equal("stderr", all(stderr.reader).await.as_str(), "ends\n")?;
    let status = all(error.reader).await;
    ensure!(status.contains("NonZeroExitCode") && status.contains("\"9\""), "the error stream said {status:?}");
    Ok(())
}

async fn attach(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let mut config = bench.container(&pod, &["stdin"]);
    (config.stdin, config.stdin_once) = (true, true);
    let id = bench.run(&pod, config).await?;
    let request =
        v1::AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true, ..Default::default() };
    let url = bench.cri().attach(request).await?.into_inner().url;
    let connection = upgrade(&url, "v4.channel.k8s.io").await?;
    let (_error, mut stdin) = (open(&connection, "error").await?, open(&connection, "stdin").await?);
    let (stdout, _stderr) = (open(&connection, "stdout").await?, open(&connection, "stderr").await?);
    stdin.writer.send(Bytes::from_static(b"said\n")).await?;
    stdin.writer.finish().await?;
    equal("what comes back", all(stdout.reader).await.as_str(), "said\n")?;
    equal("the exit code", bench.exited(&id).await?.exit_code, 0)?;
    equal("the log", bench.log(&pod, "main.log").as_str(), "said\n")
}

async fn port_forward(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let pod = bench.pod().await?;
    bench.run(&pod, bench.container(&pod, &["answer", "8080"])).await?;
    bench.until("it listens", async || Ok(bench.log(&pod, "main.log").contains("ready"))).await?;
    let request = v1::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![8080] };
    let url = bench.cri().port_forward(request).await?.into_inner().url;
    let connection = upgrade(&url, "portforward.k8s.io").await?;
    let stream = async |kind: &str| {
        let headers = Headers::default().with("streamtype", kind).with("port", "8080").with("requestid", "0");
        connection.open(headers).await
    };
    let (_error, data) = (stream("error").await?, stream("data").await?);
    equal("what the port answers", all(data.reader).await.as_str(), "the answer")
}

/// Speaks SPDY with the server behind a URL.
async fn upgrade(url: &str, protocol: &str) -> anyhow::Result<Connection> {
    let parts = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let (host, path) = parts.with_context(|| format!("{url:?} is no URL of plain HTTP"))?;
    let mut socket = TcpStream::connect(host).await.with_context(|| format!("connecting to {host}"))?;
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        head.push(socket.read_u8().await.context("reading the answer to an upgrade")?);
    }
    let text = String::from_utf8_lossy(&head);
    ensure!(text.starts_with("HTTP/1.1 101"), "the upgrade was answered with {:?}", text.lines().next());
    Ok(Connection::start(socket, Side::Client).0)
}

async fn open(connection: &Connection, kind: &str) -> anyhow::Result<Stream> {
    let stream = connection.open(Headers::default().with("streamtype", kind)).await;
    stream.with_context(|| format!("opening the stream {kind}"))
}

async fn all(mut reader: StreamReader) -> String {
    let mut text = String::new();
    while let Ok(Some(data)) = reader.next().await {
        text.push_str(&String::from_utf8_lossy(&data));
    }
    text
}
