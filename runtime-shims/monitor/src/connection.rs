//! The socket between a runtime and a monitor, as packets with descriptors.
//!
//! Must not know: what the packets say.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, recvmsg, sendmsg,
    socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, io};
use crate::protocol::{LARGEST, SOCKET};

#[derive(Debug)]
pub(crate) struct Connection {
    socket: AsyncFd<OwnedFd>,
}

/// A socket's address is short; a path through the directory's descriptor always is.
fn address(dir: &File) -> Result<UnixAddr, Errno> {
    UnixAddr::new(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()).as_str())
}

fn seqpacket() -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// A socket in `dir` that listens, in the place of one that nobody listens to any more.
pub(crate) fn listen(dir: &Path) -> Result<OwnedFd, Error> {
    let opened = File::open(dir).map_err(io(format!("open {}", dir.display())))?;
    let path = dir.join(SOCKET);
    match bound(&opened) {
        Err(Errno::EADDRINUSE) if open(&opened).is_err_and(|errno| errno == Errno::ECONNREFUSED) => {
            fs::remove_file(&path).map_err(io(format!("remove {}", path.display())))?;
            bound(&opened)
        }
        Err(Errno::EADDRINUSE) => return Err(Error::Serves(dir.to_owned())),
        bound => bound,
    }
    .map_err(|errno| Error::Io { what: format!("listen at {}", path.display()), source: errno.into() })
}

fn bound(dir: &File) -> Result<OwnedFd, Errno> {
    let socket = seqpacket()?;
    bind(socket.as_raw_fd(), &address(dir)?)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| errno(&error))?;
    nix::sys::socket::listen(&socket, Backlog::new(64)?)?;
    Ok(socket)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn open(dir: &File) -> Result<OwnedFd, Errno> {
    let socket = seqpacket()?;
    connect(socket.as_raw_fd(), &address(dir)?)?;
    Ok(socket)
}

impl Connection {
    pub fn open(dir: &Path) -> Result<Connection, Error> {
        let absent = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::Absent(dir.to_owned()),
            io::ErrorKind::ConnectionRefused => Error::Gone(dir.to_owned()),
            _ => Error::Io { what: format!("connect to the monitor in {}", dir.display()), source: error },
        };
        let opened = File::open(dir).map_err(absent)?;
        let socket = open(&opened).map_err(|errno| absent(errno.into()))?;
        // SAFETY: the descriptor is owned, and stays the same until it is dropped with this.
        let socket = unsafe { AsyncFd::register(socket) };
        Ok(Connection { socket: socket.map_err(|error| absent(error.into()))? })
    }

    pub async fn send(&self, message: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let send = |socket: &OwnedFd| {
            let parts = [IoSlice::new(message)];
            sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None).map_err(io::Error::from)
        };
        self.socket.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// The next packet; empty once there is nobody at the other end.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        // The room is made when there is something to receive: there are as many connections as sandboxes.
        self.socket.async_io(Interest::READABLE, |socket| receive_now(socket.as_raw_fd())).await
    }
}

fn receive_now(socket: RawFd) -> io::Result<Vec<u8>> {
    let mut room = vec![0; LARGEST];
    let mut parts = [IoSliceMut::new(&mut room)];
    let length = recvmsg::<()>(socket, &mut parts, None, MsgFlags::MSG_CMSG_CLOEXEC)?.bytes;
    room.truncate(length);
    room.shrink_to_fit();
    Ok(room)
}
