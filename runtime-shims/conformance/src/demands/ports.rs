//! Ports of pods: forwarded through the runtime, and mapped to the host's.
//!
//! Must not know: how the protocols work.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use pintle_cri::streaming::spdy::Connection;
use pintle_cri::v1;
use pintle_cri::v1::NamespaceMode as Mode;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};

use super::demand;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, equal};
use crate::remote::{Port, read, text, upgrade};

pub const DEMANDS: &[Demand] = &[
    demand!(
        "port-forward/port",
        "a port of the pod is reached through the runtime",
        "runtime.v1 PortForward.url; portforward.k8s.io",
        port
    ),
    demand!(
        "port-forward/loopback",
        "what listens on the pod's loopback alone is reached as well",
        "runtime.v1 PortForward; kubectl port-forward",
        loopback
    ),
    demand!(
        "port-forward/host-network",
        "a port of a pod on the host's network is reached",
        "runtime.v1 PortForward, NamespaceOption.network NODE",
        host_network
    ),
    demand!(
        "port-forward/half-close",
        "a client that has said all still hears the answer",
        "portforward.k8s.io: data stream closed by one side",
        half_close
    ),
    demand!(
        "port-forward/much",
        "two megabytes each way come whole, byte for byte",
        "portforward.k8s.io: data stream",
        much
    ),
    demand!(
        "port-forward/several",
        "one session carries several connections at once, kept apart by their request numbers",
        "portforward.k8s.io: requestid header",
        several
    ),
    demand!(
        "port-forward/nobody-listens",
        "a port that nobody listens on is told on the error stream",
        "portforward.k8s.io: error stream; kubectl port-forward",
        nobody
    ),
    demand!("port-forward/stopped", "no port of a stopped sandbox is forwarded", "runtime.v1 PortForward", stopped),
    demand!(
        "sandbox/host-port",
        "a port of the host leads to the pod's, over TCP and UDP",
        "runtime.v1 PodSandboxConfig.port_mappings: container_port, host_port, protocol",
        host_port
    ),
];

/// Within which a packet is answered, or it is lost.
const ANSWERED: Duration = Duration::from_millis(500);

/// A session, and the pod whose container does this.
async fn session(bench: &Bench, config: v1::PodSandboxConfig, words: &[&str]) -> anyhow::Result<Connection> {
    let pod = bench.run_pod(config).await?;
    bench.ready(&pod, bench.container(&pod, words)).await?;
    upgrade(&url(bench, &pod, 8080).await?, "portforward.k8s.io").await
}

async fn url(bench: &Bench, pod: &Pod, port: i32) -> anyhow::Result<String> {
    let request = v1::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![port] };
    Ok(bench.cri().port_forward(request).await.context("PortForward")?.into_inner().url)
}

async fn port(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let session = session(bench, bench.pod_config(), &["answer", "8080"]).await?;
    let port = Port::open(&session, 8080, 0).await?;
    equal("what the port answers", text(port.data.reader).await?.as_str(), "the answer")
}

/// Says this to the other end, and hears it again.
async fn echoed(session: &Connection, port: u16, number: u32, sent: Vec<u8>) -> anyhow::Result<()> {
    let opened = Port::open(session, port, number).await?;
    let (mut writer, mut reader) = (opened.data.writer, opened.data.reader);
    let saying = async { writer.send(Bytes::from(sent.clone())).await.context("saying it") };
    let (said, came) = tokio::join!(saying, read(&mut reader, sent.len()));
    said?;
    let came = came?;
    ensure!(came == sent, "{} bytes came back, and not those {} that were sent", came.len(), sent.len());
    Ok(())
}

async fn loopback(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let session = session(bench, bench.pod_config(), &["echo-server", "127.0.0.1:8080"]).await?;
    echoed(&session, 8080, 0, b"hello".into()).await
}

async fn host_network(bench: &Bench) -> anyhow::Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = bench.pod_config_with(|it| it.network = Mode::Node.into());
    let session = session(bench, config, &["echo-server", &free.to_string()]).await?;
    echoed(&session, free.port(), 0, b"hello".into()).await
}

async fn half_close(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    // containerd before 1.7 hangs up on both sides
    bench.needs_modern("half-closed ports")?;
    let session = session(bench, bench.pod_config(), &["echo-server", "0.0.0.0:8080"]).await?;
    let mut opened = Port::open(&session, 8080, 0).await?;
    opened.data.writer.send(Bytes::from_static(b"said all")).await?;
    opened.data.writer.finish().await?;
    equal("what comes back", text(opened.data.reader).await?.as_str(), "said all")
}

async fn much(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let session = session(bench, bench.pod_config(), &["echo-server", "0.0.0.0:8080"]).await?;
    echoed(&session, 8080, 0, (0..1_u32 << 19).flat_map(u32::to_le_bytes).collect()).await
}

async fn several(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let session = session(bench, bench.pod_config(), &["echo-server", "0.0.0.0:8080"]).await?;
    let one = |number: u32| echoed(&session, 8080, number, format!("connection {number}").into_bytes());
    futures::future::try_join_all((0..5).map(one)).await.map(drop)
}

async fn nobody(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let session = session(bench, bench.pod_config(), &["answer", "8080"]).await?;
    let port = Port::open(&session, 8081, 0).await?;
    let told = text(port.error).await?;
    ensure!(!told.is_empty(), "the error stream says nothing");
    Ok(())
}

async fn stopped(bench: &Bench) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    bench.stop_pod(&pod).await?;
    let Ok(url) = url(bench, &pod, 80).await else { return Ok(()) };
    // a runtime may say so only in the session
    let Ok(session) = upgrade(&url, "portforward.k8s.io").await else { return Ok(()) };
    let port = Port::open(&session, 80, 0).await?;
    ensure!(!text(port.error).await?.is_empty(), "the error stream says nothing");
    Ok(())
}

/// The host's own address towards a pod.
fn address_towards(pod: &str) -> anyhow::Result<IpAddr> {
    let pod: IpAddr = pod.parse().with_context(|| format!("{pod:?} is no address"))?;
    let any: SocketAddr = if pod.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect((pod, 9))?;
    Ok(socket.local_addr()?.ip())
}

async fn host_port(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_pod_network()?;
    let free = i32::from(std::net::TcpListener::bind("0.0.0.0:0")?.local_addr()?.port());
    let mapped = |protocol: v1::Protocol, container_port| v1::PortMapping {
        protocol: protocol.into(),
        container_port,
        host_port: free,
        host_ip: String::new(),
    };
    let port_mappings = vec![mapped(v1::Protocol::Tcp, 8080), mapped(v1::Protocol::Udp, 8081)];
    let pod = bench.run_pod(v1::PodSandboxConfig { port_mappings, ..bench.pod_config() }).await?;
    bench.ready(&pod, bench.container(&pod, &["answer", "8080"])).await?;
    bench.ready(&pod, Bench::named(bench.container(&pod, &["udp-answer", "8081"]), "udp")).await?;
    let network = bench.pod_status(&pod).await?.network.context("no network in the status")?;
    let host = SocketAddr::new(address_towards(&network.ip)?, u16::try_from(free)?);
    let mut answer = String::new();
    let connected = tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(host)).await;
    let mut connection = connected.with_context(|| format!("nobody at {host}"))?.with_context(|| host.to_string())?;
    connection.read_to_string(&mut answer).await?;
    equal("what the port answers", answer.as_str(), "the answer")?;
    bench.until("the port answers over UDP", async || Ok(udp(host).await?.as_deref() == Some("the answer"))).await
}

async fn udp(host: SocketAddr) -> anyhow::Result<Option<String>> {
    let socket = UdpSocket::bind(if host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(host).await?;
    socket.send(b"?").await?;
    let mut answer = [0; 64];
    match tokio::time::timeout(ANSWERED, socket.recv(&mut answer)).await {
        Ok(Ok(length)) => Ok(answer.get(..length).map(|text| String::from_utf8_lossy(text).into_owned())),
        _lost => Ok(None),
    }
}
