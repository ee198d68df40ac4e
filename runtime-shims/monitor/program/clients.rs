//! The connections of clients.
//!
//! Must not know: what their requests do. A client that does not read what it is told is let go: it can come back and ask.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::protocol::{Body, LARGEST, Malformed, Reply, Request};
use crate::sys::{self, Errno, Fd};

/// Replies that may wait for a client, in bytes.
const MOST_WAITING: usize = 1 << 20;

#[derive(Debug)]
pub struct Client {
    pub serial: u64,
    pub fd: Fd,
    /// It has said hello, and is told of events.
    pub greeted: bool,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    pub gone: bool,
}

/// What came from a client.
#[derive(Debug)]
pub enum Message {
    Nothing,
    Request {
        number: u32,
        request: Box<Request>,
        descriptors: Vec<Fd>,
    },
    /// None of this version; the number is what stands where a request's does.
    Malformed {
        number: u32,
    },
}

impl Client {
    pub fn new(serial: u64, fd: Fd) -> Client {
        Client { serial, fd, greeted: false, waiting: VecDeque::new(), waiting_bytes: 0, gone: false }
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn receive(&mut self) -> Message {
        let mut room = alloc::vec![0; LARGEST];
        let received = match sys::receive(&self.fd, &mut room) {
            Ok(received) if received.length > 0 => received,
            Err(Errno::EAGAIN) => return Message::Nothing,
            _ended => {
                self.gone = true;
                return Message::Nothing;
            }
        };
        room.truncate(received.length);
        let request = if received.cut { Err(Malformed) } else { Request::decode(&room) };
        match request {
            Ok((number, request)) if request.descriptors() == received.descriptors.len() => {
                Message::Request { number, request: Box::new(request), descriptors: received.descriptors }
            }
            _ => Message::Malformed { number: number(&room) },
        }
    }

    pub fn tell(&mut self, number: u32, body: Body) {
        let message = Reply { number, body }.encode();
        self.waiting_bytes += message.len();
        self.waiting.push_back(message);
        self.flush();
        self.gone |= self.waiting_bytes > MOST_WAITING;
    }

    pub fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match sys::send(&self.fd, message) {
                Ok(()) => {
                    self.waiting_bytes -= message.len();
                    self.waiting.pop_front();
                }
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

/// Where a request of any version has its number.
fn number(message: &[u8]) -> u32 {
    message.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}
