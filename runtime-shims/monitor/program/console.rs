//! The socket on which an OCI runtime hands over a container's terminal (`--console-socket`).
//!
//! Must not know: what is done with it.

use alloc::format;
use alloc::vec::Vec;

use crate::sys::{self, Errno, Fd, Result};

#[derive(Debug)]
pub struct Console {
    path: Vec<u8>,
    listener: Fd,
    connection: Option<Fd>,
}

impl Console {
    /// Listens in a directory, and says how the OCI runtime names the socket. Both names go through /proc, for a socket's
    /// path must be short.
    pub fn listen(dir: &Fd, serial: u64) -> Result<(Console, Vec<u8>)> {
        let name = |process: &str| format!("/proc/{process}/fd/{}/console-{serial}", dir.number()).into_bytes();
        let path = name("self");
        let listener = sys::listen(&path)?;
        Ok((Console { path, listener, connection: None }, name(&format!("{}", sys::own_pid()))))
    }

    /// What to wait for.
    pub fn fd(&self) -> &Fd {
        self.connection.as_ref().unwrap_or(&self.listener)
    }

    /// The terminal, once it has come. `room` is overwritten.
    ///
    /// # Errors
    /// EAGAIN: not yet; others: never.
    pub fn receive(&mut self, room: &mut [u8]) -> Result<Fd> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => sys::accept(&self.listener)?,
        };
        match sys::receive(&connection, room) {
            Ok(mut received) => received.descriptors.pop().ok_or(Errno::EIO),
            Err(error) => {
                self.connection = Some(connection);
                Err(error)
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = sys::unlink(&self.path);
    }
}
