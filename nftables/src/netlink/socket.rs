//! A netlink socket of the netfilter family: one `send` per batch, its errors read back, and dumps.
//!
//! Must not know: what the messages say.

use std::io;

use anyhow::Context as _;
use bytes::BytesMut;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::wire::{Attributes, DONE, ERROR, Message, messages, u32_at};

/// Room for the largest batch and for an error per message of it. Only a limit: nothing is allocated before it is used.
const BUFFER: usize = 512 << 20;
/// One read: the kernel's dumps come in datagrams of at most 32 KiB, an error may carry its whole message.
const READ: usize = 256 << 10;

/// `NLMSGERR_ATTR_MSG` and `NLMSGERR_ATTR_OFFS`.
const ERROR_TEXT: u16 = 1;
const ERROR_OFFSET: u16 = 2;

/// What the kernel refused, and where in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    pub errno: Errno,
    /// Of the message that was refused.
    pub sequence: u32,
    /// Bytes from that message's start to the attribute at fault.
    pub offset: Option<u32>,
    pub text: Option<String>,
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.errno)?;
        if let Some(text) = &self.text {
            write!(f, ": {text}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (attribute at byte {offset})")?;
        }
        Ok(())
    }
}

impl std::error::Error for KernelError {}

/// A socket to the netfilter subsystems of the network namespace it was opened in.
pub struct Socket {
    inner: netlink_sys::Socket,
    buffer: BytesMut,
}

impl Socket {
    /// Errors when the process may not (`CAP_NET_ADMIN` is needed to force the buffers' size).
    pub fn open() -> anyhow::Result<Self> {
        let mut inner = netlink_sys::Socket::new(NETLINK_NETFILTER).context("opening a netfilter netlink socket")?;
        inner.bind_auto().context("binding a netfilter netlink socket")?;
        setsockopt(&inner, sockopt::SndBufForce, &BUFFER).context("enlarging the netlink send buffer")?;
        setsockopt(&inner, sockopt::RcvBufForce, &BUFFER).context("enlarging the netlink receive buffer")?;
        inner.set_cap_ack(true).context("asking for short netlink errors")?;
        inner.set_ext_ack(true).context("asking for extended netlink errors")?;
        Ok(Self { inner, buffer: BytesMut::with_capacity(READ) })
    }

    /// Sends `bytes` at once; the kernel has dealt with them when this returns. Hands back the errors it reported.
    pub fn transact(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<KernelError>> {
        let sent = self.inner.send(bytes, 0).with_context(|| format!("sending {} bytes to netfilter", bytes.len()))?;
        anyhow::ensure!(sent == bytes.len(), "netfilter took {sent} of {} bytes", bytes.len());
        let mut errors = Vec::new();
        while self.receive(MsgFlags::MSG_DONTWAIT.bits())? {
            errors.extend(messages(&self.buffer).filter_map(|message| error_of(&message)));
        }
        Ok(errors)
    }

    /// Sends a request that is answered at once and hands the answer's messages to `each`.
    pub fn ask(&mut self, request: &[u8], mut each: impl FnMut(&Message<'_>)) -> anyhow::Result<()> {
        self.inner.send(request, 0).context("asking netfilter")?;
        while self.receive(MsgFlags::MSG_DONTWAIT.bits())? {
            for message in messages(&self.buffer) {
                match error_of(&message) {
                    Some(error) => return Err(error).context("netfilter refused to answer"),
                    None => each(&message),
                }
            }
        }
        Ok(())
    }

    /// Sends a dump request and hands every message of the answer to `each`.
    pub fn dump(&mut self, request: &[u8], mut each: impl FnMut(&Message<'_>)) -> anyhow::Result<()> {
        self.inner.send(request, 0).context("asking netfilter for a dump")?;
        loop {
            self.receive(0)?;
            for message in messages(&self.buffer) {
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => match error_of(&message) {
                        Some(error) => return Err(error).context("netfilter refused a dump"),
                        None => return Ok(()),
                    },
                    _ => each(&message),
                }
            }
        }
    }

    /// Reads one datagram into the buffer; `false` when there is none and `flags` say not to wait.
    fn receive(&mut self, flags: i32) -> anyhow::Result<bool> {
        self.buffer.clear();
        self.buffer.reserve(READ);
        match self.inner.recv(&mut self.buffer, flags) {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("reading netfilter's answer"),
        }
    }
}

/// The error a message carries, if it is one; an acknowledgement is none.
fn error_of(message: &Message<'_>) -> Option<KernelError> {
    if message.kind != ERROR {
        return None;
    }
    let code = u32_at(message.body, 0)? as i32;
    if code == 0 {
        return None;
    }
    // behind the code: the refused message's header (`NETLINK_CAP_ACK`), then attributes
    let attributes = Attributes(message.body.get(20..).unwrap_or_default());
    Some(KernelError {
        errno: Errno::from_raw(-code),
        sequence: u32_at(message.body, 12).unwrap_or(message.sequence),
        offset: attributes.find(ERROR_OFFSET).and_then(|value| u32_at(value, 0)),
        text: attributes
            .find(ERROR_TEXT)
            .map(|value| String::from_utf8_lossy(value).trim_end_matches('\0').to_string()),
    })
}
