//! Servers that answer with the address they see, and clients, in namespaces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6};
use nix::sys::socket::{SockaddrStorage, bind, connect, listen, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// A busy machine may lose a first packet to a queue that is not there yet: long enough for a second one.
const PATIENCE: Duration = Duration::from_millis(2500);

/// A transport with connections: TCP and SCTP's sockets are used alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    Sctp,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    fn stream(self, ipv6: bool) -> io::Result<OwnedFd> {
        let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let protocol = if self == Self::Sctp { SockProtocol::Sctp } else { SockProtocol::Tcp };
        Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, protocol)?)
    }
}

/// Does the kernel know SCTP?
pub fn has_sctp() -> bool {
    Kind::Sctp.stream(false).is_ok()
}

/// Runs `act` in a thread inside the namespace; in the caller's own when there is none given.
pub fn inside<T: Send>(netns: Option<&Path>, act: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        if let Some(netns) = netns {
            setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        }
        act()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).unwrap()
}

/// Answers every connection or datagram with the client's address, until the process ends.
pub fn serve(netns: Option<&Path>, kind: Kind, port: u16) {
    inside(netns, || {
        let any = SocketAddr::new("::".parse().unwrap(), port);
        if kind == Kind::Udp {
            let socket = UdpSocket::bind(any).unwrap();
            std::thread::spawn(move || answer_datagrams(&socket));
            return;
        }
        let fd = kind.stream(true).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        listen(&fd, Backlog::new(16).unwrap()).unwrap();
        let listener = TcpListener::from(fd);
        std::thread::spawn(move || {
            while let Ok((mut stream, client)) = listener.accept() {
                let _ = write!(stream, "{}", client.ip().to_canonical());
            }
        });
    });
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 64];
    while let Ok((_, client)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(client.ip().to_canonical().to_string().as_bytes(), client);
    }
}

/// Asks once; the client's address as the server saw it.
pub fn ask(netns: Option<&Path>, kind: Kind, address: &str, port: u16) -> io::Result<String> {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    inside(netns, || if kind == Kind::Udp { ask_by_datagram(to) } else { ask_by_stream(kind, to) })
}

fn ask_by_datagram(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    ask_again(&socket)
}

/// One datagram there and one back.
pub fn ask_again(socket: &UdpSocket) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let read = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

fn ask_by_stream(kind: Kind, to: SocketAddr) -> io::Result<String> {
    let fd = kind.stream(to.is_ipv6())?;
    // It bounds connecting, too.
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(PATIENCE.as_millis() as i64))?;
    match to {
        SocketAddr::V4(to) => connect(fd.as_raw_fd(), &SockaddrIn::from(to))?,
        SocketAddr::V6(to) => connect(fd.as_raw_fd(), &SockaddrIn6::from(to))?,
    }
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
