//! Names outside the cluster: the client's packet goes to the host's resolvers as it is, and theirs back.
//!
//! Bounded in time, in tries and in cached replies. Must not know: the model.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::query::Transport;

/// For one resolver's reply.
const PATIENCE: Duration = Duration::from_secs(2);
/// Resolvers tried for one query: the C library takes three from the file too.
const MAX_RESOLVERS: usize = 3;
/// Replies are kept for their smallest TTL, at most this long, as in kubeadm's CoreDNS configuration.
const MAX_TTL: Duration = Duration::from_secs(30);
const MAX_CACHED: usize = 2000;
/// The file is looked at again when it is older than this at a query.
const REREAD: Duration = Duration::from_secs(10);

/// The way to the host's resolvers.
pub struct Forwarder {
    resolv_conf: PathBuf,
    /// Ours: never asked, or a query would go round in circles.
    own: Vec<IpAddr>,
    resolvers: Mutex<(Option<Instant>, Vec<SocketAddr>)>,
    cache: Mutex<HashMap<Vec<u8>, Cached>>,
}

struct Cached {
    reply: Vec<u8>,
    until: Instant,
}

impl Forwarder {
    pub fn new(resolv_conf: PathBuf, own: Vec<IpAddr>) -> Self {
        Self { resolv_conf, own, resolvers: Mutex::default(), cache: Mutex::default() }
    }

    /// The reply to the query `packet`, with its identifier; None when no resolver answers.
    pub async fn forward(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let (id, rest) = packet.split_first_chunk::<2>()?;
        // the whole query but its identifier is the key: flags, question and EDNS
        let key = [&[transport as u8], rest].concat();
        if let Some(reply) = self.cached(&key) {
            return Some(with_id(reply, *id));
        }
        let own_id = rand::random::<[u8; 2]>();
        let asked = with_id(packet.to_vec(), own_id);
        for resolver in self.resolvers().await {
            let reply = match transport {
                Transport::Udp => timeout(PATIENCE, over_udp(resolver, &asked)).await,
                Transport::Tcp => timeout(PATIENCE, over_tcp(resolver, &asked)).await,
            };
            match reply {
                Ok(Ok(reply)) if reply.first_chunk() == Some(&own_id) => {
                    self.remember(key, &reply);
                    return Some(with_id(reply, *id));
                }
                Ok(Err(error)) => tracing::debug!("asking the resolver {resolver}: {error}"),
                _ => tracing::debug!("the resolver {resolver} did not answer"),
            }
        }
        None
    }

    async fn resolvers(&self) -> Vec<SocketAddr> {
        {
            let resolvers = self.resolvers.lock();
            if resolvers.0.is_some_and(|read| read.elapsed() < REREAD) {
                return resolvers.1.clone();
            }
        }
        let text = tokio::fs::read_to_string(&self.resolv_conf).await.unwrap_or_default();
        let found = parse_resolv_conf(&text, &self.own);
        *self.resolvers.lock() = (Some(Instant::now()), found.clone());
        found
    }

    fn cached(&self, key: &[u8]) -> Option<Vec<u8>> {
        let cache = self.cache.lock();
        cache.get(key).filter(|cached| cached.until > Instant::now()).map(|cached| cached.reply.clone())
    }

    fn remember(&self, key: Vec<u8>, reply: &[u8]) {
        let Some(ttl) = Message::from_vec(reply).ok().as_ref().and_then(time_to_live) else { return };
        let mut cache = self.cache.lock();
        let now = Instant::now();
        if cache.len() >= MAX_CACHED {
            cache.retain(|_, cached| cached.until > now);
        }
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(key, Cached { reply: reply.to_vec(), until: now + ttl });
    }
}

/// How long a reply may be kept; None when not at all.
fn time_to_live(reply: &Message) -> Option<Duration> {
    let lasting = matches!(reply.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    if !lasting || reply.metadata.truncation {
        return None;
    }
    let records = reply.answers.iter().chain(&reply.authorities);
    let smallest = records.map(|record| record.ttl).min()?;
    (smallest > 0).then(|| Duration::from_secs(smallest.into()).min(MAX_TTL))
}

fn with_id(mut packet: Vec<u8>, id: [u8; 2]) -> Vec<u8> {
    if let Some(start) = packet.first_chunk_mut() {
        *start = id;
    }
    packet
}

/// A connected socket with a port of its own: replies from elsewhere never arrive.
async fn over_udp(resolver: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if resolver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let read = socket.recv(&mut buffer).await?;
        if buffer.get(..2) == packet.get(..2) {
            buffer.truncate(read);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(resolver: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(packet.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

fn parse_resolv_conf(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).filter_map(|rest| {
        let address = rest.split_whitespace().next()?;
        address.split('%').next()?.parse::<IpAddr>().ok()
    });
    addresses.filter(|a| !own.contains(a)).take(MAX_RESOLVERS).map(|address| (address, 53).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_the_file_without_ourselves() {
        let text =
            "# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t10.96.0.10\nnameserver fe80::1%eth0\n";
        let found = parse_resolv_conf(text, &[IpAddr::from([10, 96, 0, 10])]);
        assert_eq!(found, ["192.0.2.1:53".parse().expect("an address"), "[fe80::1]:53".parse().expect("an address")]);
    }
}
