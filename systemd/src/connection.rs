//! One connection to systemd: authenticated, a call at a time, every wait bounded.
//!
//! systemd's own socket is asked first: it is there before a bus is, and only root reaches it. Else the system bus.
//! Must not know: what is called.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Error;
use crate::message::{self, Call, FIXED, Kind, Received};

const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";
/// How long a call and its job may take; runc's.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Of an answer to the authentication.
const LONGEST_LINE: usize = 512;
/// Signals that came while a reply was awaited.
const MOST_SIGNALS: usize = 1024;

pub struct Connection {
    stream: UnixStream,
    serial: u32,
    /// Signals that came before the reply that was waited for, as `(member, body)`.
    signals: VecDeque<(String, Vec<u8>)>,
}

impl Connection {
    /// A connection, and whether it goes over the bus, where one has to introduce oneself.
    pub fn open() -> Result<(Connection, bool), Error> {
        match Self::to(Path::new(PRIVATE)) {
            Ok(connection) => Ok((connection, false)),
            Err(Error::Unreachable { .. }) => Ok((Self::to(Path::new(BUS))?, true)),
            Err(error) => Err(error),
        }
    }

    /// A connection to the socket at `path`.
    pub fn to(path: &Path) -> Result<Connection, Error> {
        let unreachable = |source| Error::Unreachable { path: path.display().to_string(), source };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(Error::Broken)?;
        let mut connection = Connection { stream, serial: 0, signals: VecDeque::new() };
        connection.authenticate()?;
        Ok(connection)
    }

    /// By the kernel's word for who this is. All of it goes in one write, and nothing more before the answer: systemd does
    /// not look at a call that it reads together with the end of the authentication until something else comes.
    fn authenticate(&mut self) -> Result<(), Error> {
        let until = Instant::now() + LIMIT;
        let user: String = nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes()).map_err(Error::Broken)?;
        let answer = self.line(until)?;
        if !answer.starts_with("OK ") {
            return Err(Error::Refused { member: "AUTH", name: "EXTERNAL".into(), text: answer });
        }
        Ok(())
    }

    fn line(&mut self, until: Instant) -> Result<String, Error> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte, until)?;
            line.extend(byte);
            if line.len() > LONGEST_LINE {
                return Err(Error::Malformed("an endless answer to the authentication"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn fill(&mut self, mut room: &mut [u8], until: Instant) -> Result<(), Error> {
        while !room.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Late(LIMIT));
            }
            self.stream.set_read_timeout(Some(left)).map_err(Error::Broken)?;
            match self.stream.read(room) {
                Ok(0) => return Err(Error::Broken(io::Error::from(ErrorKind::UnexpectedEof))),
                Ok(read) => room = room.split_at_mut(read).1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Error::Late(LIMIT)),
                Err(error) => return Err(Error::Broken(error)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, until: Instant) -> Result<Received, Error> {
        let mut fixed = [0; FIXED];
        self.fill(&mut fixed, until)?;
        let mut all = fixed.to_vec();
        all.resize(FIXED + message::rest(&fixed)?, 0);
        self.fill(all.split_at_mut(FIXED).1, until)?;
        message::decode(&all)
    }

    /// Calls, and waits for the reply's body.
    pub fn call(&mut self, call: &Call<'_>) -> Result<Vec<u8>, Error> {
        self.serial += 1;
        let serial = self.serial;
        self.stream.write_all(&call.encode(serial)).map_err(Error::Broken)?;
        let until = Instant::now() + LIMIT;
        loop {
            let received = self.receive(until)?;
            match received.kind {
                Kind::Reply if received.answers == Some(serial) => return Ok(received.body),
                Kind::Error(name) if received.answers == Some(serial) => {
                    let text = crate::wire::Reader::new(&received.body).text().unwrap_or_default().to_owned();
                    return Err(Error::Refused { member: call.member, name, text });
                }
                Kind::Signal(member) => self.keep(member, received.body),
                _ => {}
            }
        }
    }

    fn keep(&mut self, member: String, body: Vec<u8>) {
        if self.signals.len() >= MOST_SIGNALS {
            self.signals.pop_front();
        }
        self.signals.push_back((member, body));
    }

    /// Waits for a signal for which `found` has a result.
    pub fn until<T>(&mut self, mut found: impl FnMut(&str, &[u8]) -> Option<T>) -> Result<T, Error> {
        let until = Instant::now() + LIMIT;
        loop {
            let (member, body) = match self.signals.pop_front() {
                Some(kept) => kept,
                None => match self.receive(until)? {
                    Received { kind: Kind::Signal(member), body, .. } => (member, body),
                    _ => continue,
                },
            };
            if let Some(found) = found(&member, &body) {
                return Ok(found);
            }
        }
    }
}
