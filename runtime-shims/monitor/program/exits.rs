//! How a process ended, on disk.
//!
//! Must not know: who is told besides.

use alloc::format;
use alloc::vec::Vec;

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

/// Whether a cgroup's `memory.events` or `memory.oom_control` counts a process killed for want of memory.
pub fn killed_for_memory(path: &[u8]) -> bool {
    let text: Vec<u8> = sys::read_file(path, 4096).unwrap_or_default();
    let counted = |line: &[u8]| line.strip_prefix(b"oom_kill ").is_some_and(|count| count != b"0");
    text.split(|byte| *byte == b'\n').any(counted)
}
