//! A port-forward session: pairs of streams, each connected to a port in the pod's network.
//!
//! Must not know: how the client's connection came about.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::super::spdy::{Connection, Incoming, Stream, StreamReader, StreamWriter};

pub const PROTOCOLS: &[&str] = &["portforward.k8s.io"];
const PIECE: usize = 32 << 10;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// As long as socat, by which upstream's runtimes forwarded, waits for the other half.
const HALF_CLOSED: Duration = Duration::from_millis(500);
/// Streams that wait for their other half.
const MOST_WAITING: usize = 64;

/// Makes a socket in the pod's network, for an address. May block.
pub type Sockets = Arc<dyn Fn(SocketAddr) -> anyhow::Result<TcpSocket> + Send + Sync>;

/// A socket in this thread's network.
///
/// # Errors
/// What the kernel says.
pub fn socket(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    Ok(if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?)
}

/// Serves until the client goes.
pub async fn serve(sockets: Sockets, connection: Connection, mut incoming: Incoming) {
    let mut waiting: Vec<(String, Stream)> = Vec::new();
    let mut forwards = JoinSet::new();
    while let Some(stream) = incoming.next().await {
        let key = stream.headers.get("requestid").or(stream.headers.get("port")).unwrap_or_default().to_owned();
        let Some(index) = waiting.iter().position(|(other, _)| *other == key) else {
            if waiting.len() < MOST_WAITING {
                waiting.push((key, stream));
            }
            continue;
        };
        let (_, other) = waiting.swap_remove(index);
        let is_data = stream.headers.get("streamtype") == Some("data");
        let (data, error) = if is_data { (stream, other) } else { (other, stream) };
        forwards.spawn(forward(sockets.clone(), data, error));
        while forwards.try_join_next().is_some() {}
    }
    drop(connection);
}

async fn forward(sockets: Sockets, data: Stream, mut error: Stream) {
    let Some(port) = data.headers.get("port").and_then(|port| port.parse::<u16>().ok()) else {
        return tell(&mut error.writer, "the stream names no port".to_owned()).await;
    };
    match connect(&sockets, port).await {
        Ok(socket) => carry(socket, data).await,
        Err(failure) => tell(&mut error.writer, format!("{failure:#}")).await,
    }
}

async fn tell(error: &mut StreamWriter, text: String) {
    // a client that is gone needs no reason
    let _ = error.send(Bytes::from(text)).await;
    let _ = error.finish().await;
}

/// `localhost` in the pod: IPv4 first, as upstream's runtimes try.
async fn connect(sockets: &Sockets, port: u16) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        let make = sockets.clone();
        // a socket belongs to the network it was made in, wherever it is used
        let socket = tokio::task::spawn_blocking(move || make(address)).await??;
        match tokio::time::timeout(CONNECT_WITHIN, socket.connect(address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = last.or(Some(anyhow::Error::from(error))),
            Err(elapsed) => last = last.or(Some(elapsed.into())),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no address")))
        .with_context(|| format!("connecting to port {port} in the pod"))
}

/// Both directions, each closed on its own. When the pod has closed, the client has a moment for the rest.
async fn carry(socket: TcpStream, data: Stream) {
    let (read, write) = socket.into_split();
    let down = async {
        down(read, data.writer).await;
        tokio::time::sleep(HALF_CLOSED).await;
    };
    let up = async {
        up(data.reader, write).await;
        std::future::pending::<()>().await;
    };
    tokio::select! { () = up => {}, () = down => {} }
}

async fn up(mut from: StreamReader, mut to: OwnedWriteHalf) {
    while let Ok(Some(data)) = from.next().await {
        if to.write_all(&data).await.is_err() {
            return;
        }
    }
    // the pod may have closed first
    let _ = to.shutdown().await;
}

async fn down(mut from: OwnedReadHalf, mut to: StreamWriter) {
    let mut piece = BytesMut::with_capacity(PIECE);
    while from.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
        if to.send(piece.split().freeze()).await.is_err() {
            return;
        }
        piece.reserve(PIECE);
    }
    // a lost connection ends the session anyway
    let _ = to.finish().await;
}
