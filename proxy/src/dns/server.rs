//! The UDP and TCP sockets that DNS clients use.
//!
//! Answers from the model are sent by the reading task itself; only forwarded queries get a task, and only so many.
//! Must not know: names and records.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::Zone;
use super::forward::Forwarder;
use super::query::{Answered, Resolver, Transport};
use crate::model::Model;

/// Queries waiting for the host's resolvers; more are dropped, and clients ask again.
const MAX_FORWARDED: usize = 512;
const MAX_CONNECTIONS: usize = 256;
/// A TCP connection may say nothing for so long.
const IDLE: Duration = Duration::from_secs(10);

/// Where to serve which zone.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses of this host.
    pub listen: Vec<IpAddr>,
    pub port: u16,
    /// `cluster.local`
    pub domain: String,
    /// Names the host's resolvers.
    pub resolv_conf: PathBuf,
}

/// Serves until cancelled. Errors when an address cannot be bound.
pub async fn serve(settings: Settings, model: Arc<RwLock<Model>>, cancel: CancellationToken) -> anyhow::Result<()> {
    let zone = Zone::new(&settings.domain).with_context(|| format!("the cluster domain {:?}", settings.domain))?;
    let forwarder = Forwarder::new(settings.resolv_conf.clone(), settings.listen.clone());
    let resolver = Arc::new(Resolver { model, zone, forwarder });
    let forwarded = Arc::new(Semaphore::new(MAX_FORWARDED));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    for address in &settings.listen {
        let address = SocketAddr::new(*address, settings.port);
        let socket = UdpSocket::bind(address).await.with_context(|| format!("DNS on udp {address}"))?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("DNS on tcp {address}"))?;
        tasks.spawn(serve_udp(Arc::new(socket), resolver.clone(), forwarded.clone()));
        tasks.spawn(serve_tcp(listener, resolver.clone(), connections.clone()));
    }
    // dropping the set ends the loops
    cancel.cancelled().await;
    Ok(())
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>, forwarded: Arc<Semaphore>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (read, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // an ICMP error for an earlier reply, or memory pressure
                tracing::debug!("reading a DNS query: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        match resolver.answer(&buffer[..read], Transport::Udp) {
            Answered::Now(reply) => send(&socket, client, reply).await,
            Answered::Later(pending) => {
                let Ok(permit) = forwarded.clone().try_acquire_owned() else { continue };
                let (socket, resolver) = (socket.clone(), resolver.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    let reply = resolver.complete(pending).await;
                    send(&socket, client, reply).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, reply: Option<Vec<u8>>) {
    if let Some(reply) = reply
        && let Err(error) = socket.send_to(&reply, client).await
    {
        tracing::debug!("answering the DNS client {client}: {error}");
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>, connections: Arc<Semaphore>) {
    while let Ok(permit) = connections.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let resolver = resolver.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = serve_connection(stream, &resolver).await {
                        tracing::debug!("a DNS connection: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("accepting a DNS connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, resolver: &Resolver) -> std::io::Result<()> {
    loop {
        let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let mut packet = match length {
            Ok(length) => vec![0; usize::from(length)],
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        timeout(IDLE, stream.read_exact(&mut packet)).await??;
        let reply = match resolver.answer(&packet, Transport::Tcp) {
            Answered::Now(reply) => reply,
            Answered::Later(pending) => resolver.complete(pending).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let Ok(length) = u16::try_from(reply.len()) else { return Ok(()) };
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())).await??;
    }
}
