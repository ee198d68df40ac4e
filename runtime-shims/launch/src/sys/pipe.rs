//! A conversation between a process and its child: the child says it is ready or why not, the parent says go.
//!
//! Must not know: about what.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};

const FINE: u8 = b'+';
const FAILED: u8 = b'-';
/// No error is longer.
const LONGEST: u64 = 64 * 1024;

/// One end of the conversation. The other end's death ends every wait, in a child once it has called [`Talk::leave_other`].
#[derive(Debug)]
pub struct Talk(UnixStream, RawFd);

impl Talk {
    /// Both ends; neither outlives an exec.
    pub fn pair() -> io::Result<(Talk, Talk)> {
        let (one, other) = UnixStream::pair()?;
        let (first, second) = (one.as_raw_fd(), other.as_raw_fd());
        Ok((Talk(one, second), Talk(other, first)))
    }

    /// For a child, which has a copy of both ends: gives up that of its parent's, or it would wait for itself when the
    /// parent is killed.
    pub fn leave_other(&self) {
        // SAFETY: in a child the other end belongs to frames of its parent's, to which it never returns.
        unsafe { nix::libc::close(self.1) };
    }

    /// Tells the other side that this step is done.
    pub fn fine(&mut self) -> Result<()> {
        self.0.write_all(&[FINE]).context("the other process is gone")
    }

    /// Tells the other side why it failed. Nothing more can be said after that.
    pub fn failed(&mut self, error: &anyhow::Error) {
        let _ = self.0.write_all(&[FAILED]);
        let _ = self.0.write_all(format!("{error:#}").as_bytes());
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a number, once, instead of a step.
    pub fn tell(&mut self, number: i32) -> Result<()> {
        self.fine()?;
        self.0.write_all(&number.to_ne_bytes()).context("the other process is gone")
    }

    /// Waits for a number.
    pub fn told(&mut self) -> Result<i32> {
        self.wait()?;
        let mut bytes = [0; size_of::<i32>()];
        self.0.read_exact(&mut bytes).context("the other process ended unexpectedly")?;
        Ok(i32::from_ne_bytes(bytes))
    }

    /// Waits until the other side closes without an error, as an exec does.
    pub fn end(&mut self) -> Result<()> {
        let mut text = String::new();
        Read::by_ref(&mut self.0).take(LONGEST).read_to_string(&mut text).context("an error that cannot be read")?;
        if text.is_empty() { Ok(()) } else { bail!("{}", text.trim_start_matches(char::from(FAILED))) }
    }

    /// Says nothing more, and hears nothing more.
    pub fn close(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Waits for the other side's step. Fails with its error, or when it died.
    pub fn wait(&mut self) -> Result<()> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("the other process ended unexpectedly")?;
        if byte == [FINE] {
            return Ok(());
        }
        let mut text = String::new();
        Read::by_ref(&mut self.0).take(LONGEST).read_to_string(&mut text).context("an error that cannot be read")?;
        bail!("{text}")
    }
}

impl AsRawFd for Talk {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
