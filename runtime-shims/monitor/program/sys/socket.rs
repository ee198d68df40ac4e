//! Unix sockets whose packets carry messages and descriptors.

use alloc::vec::Vec;
use core::mem::size_of;

use super::{Errno, Fd, Result, c_string, checked, machine};

const AF_UNIX: usize = 1;
const SOCK_STREAM: usize = 1;
const NONBLOCK: usize = 0o4000;
const CLOEXEC: usize = 0o2000000;
const SOL_SOCKET: usize = 1;

/// A stream socket that listens at `path`, which must be short (107 bytes).
pub fn listen(path: &[u8]) -> Result<Fd> {
    let path = c_string(path)?;
    let mut address = [0_u8; 110];
    address[0] = AF_UNIX as u8;
    address.get_mut(2..2 + path.len()).ok_or(Errno::EINVAL)?.copy_from_slice(&path);
    let socket = checked(machine::SOCKET, [AF_UNIX, SOCK_STREAM | NONBLOCK | CLOEXEC, 0, 0, 0, 0])?;
    let socket = Fd(socket as i32);
    checked(machine::BIND, [socket.raw(), address.as_ptr() as usize, address.len(), 0, 0, 0])?;
    checked(machine::LISTEN, [socket.raw(), 1, 0, 0, 0, 0])?;
    Ok(socket)
}

pub fn accept(listener: &Fd) -> Result<Fd> {
    checked(machine::ACCEPT4, [listener.raw(), 0, 0, NONBLOCK | CLOEXEC, 0, 0]).map(|fd| Fd(fd as i32))
}

/// Whose process is at the other end.
pub fn peer_uid(socket: &Fd) -> Result<u32> {
    const SO_PEERCRED: usize = 17;
    let mut credentials = [0_u32; 3];
    let mut size = size_of::<[u32; 3]>() as u32;
    let arguments =
        [socket.raw(), SOL_SOCKET, SO_PEERCRED, credentials.as_mut_ptr() as usize, &raw mut size as usize, 0];
    checked(machine::GETSOCKOPT, arguments)?;
    Ok(credentials[1])
}

pub fn send(socket: &Fd, message: &[u8]) -> Result<()> {
    checked(machine::SENDTO, [socket.raw(), message.as_ptr() as usize, message.len(), 0, 0, 0]).map(drop)
}

/// A packet: how many bytes, whether there were more than fit, and the descriptors that came along.
#[derive(Debug)]
pub struct Received {
    pub length: usize,
    pub cut: bool,
    pub descriptors: Vec<Fd>,
}

/// recvmsg(2)'s `struct msghdr`.
#[repr(C)]
struct Header {
    name: usize,
    name_length: usize,
    parts: *mut [usize; 2],
    part_count: usize,
    control: *mut Control,
    control_length: usize,
    flags: i32,
}

/// One control message: `struct cmsghdr`, and room for descriptors.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; MOST],
}

/// More than any message has; the kernel closes what there is no room for.
const MOST: usize = 8;
const CONTROL_HEADER: usize = 16;

pub fn receive(socket: &Fd, into: &mut [u8]) -> Result<Received> {
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    const MSG_TRUNC: i32 = 0x20;
    let mut part = [into.as_mut_ptr() as usize, into.len()];
    let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [0; MOST] };
    let mut header = Header {
        name: 0,
        name_length: 0,
        parts: &raw mut part,
        part_count: 1,
        control: &raw mut control,
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let length = checked(machine::RECVMSG, [socket.raw(), &raw mut header as usize, MSG_CMSG_CLOEXEC, 0, 0, 0])?;
    let has_control = header.control_length >= CONTROL_HEADER;
    let descriptors = if has_control { descriptors(&control) } else { Vec::new() };
    Ok(Received { length, cut: header.flags & MSG_TRUNC != 0, descriptors })
}

fn descriptors(control: &Control) -> Vec<Fd> {
    const SCM_RIGHTS: i32 = 1;
    if control.level != SOL_SOCKET as i32 || control.kind != SCM_RIGHTS {
        return Vec::new();
    }
    let count = control.length.saturating_sub(CONTROL_HEADER) / size_of::<i32>();
    control.descriptors.iter().take(count).map(|fd| Fd(*fd)).collect()
}
