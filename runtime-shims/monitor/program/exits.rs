//! How a process ended, on disk.
//!
//! Must not know: who is told besides.

use alloc::format;

use crate::protocol::Exit;
use crate::sys::{self, Open, Result};

/// Writes `CODE NANOSECONDS[ oom]\n`, whole or not at all.
pub fn save(path: &[u8], exit: Exit) -> Result<()> {
    let mut beside = path.to_vec();
    beside.extend_from_slice(b".tmp");
    let text = format!("{} {}{}\n", exit.code, exit.at_ns, if exit.oom { " oom" } else { "" });
    let written = sys::open(&beside, Open::Fresh).and_then(|file| file.write_all(text.as_bytes()));
    written.and_then(|()| sys::rename(&beside, path))
}

/// The number of a process in a file.
pub fn read_pid(path: &[u8]) -> Option<u32> {
    let text = sys::read_file(path, 32).ok()?;
    core::str::from_utf8(&text).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
}
