//! System calls that nix does not wrap, each with the types its arguments have.
//!
//! Must not know: containers.

pub mod clone;
pub mod mount;
pub mod pipe;

use std::io;

/// The result of a raw system call: its value, or what errno says.
pub fn check(value: nix::libc::c_long) -> io::Result<nix::libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
