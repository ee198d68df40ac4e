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

/// How many processes a cgroup's `memory.events` or `memory.oom_control` counts that were killed for want of memory; none
/// when there is no such file.
fn killed_for_memory(path: &[u8]) -> Option<u32> {
    let text: Vec<u8> = sys::read_file(path, 4096).ok()?;
    let counted = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"oom_kill "));
    Some(counted.and_then(|count| core::str::from_utf8(count).ok()?.parse().ok()).unwrap_or(0))
}

/// The same of the cgroup above, which counts its children's too (v2).
pub fn killed_above(path: &[u8]) -> u32 {
    let mut parts = path.rsplitn(3, |byte| *byte == b'/');
    let (Some(file), Some(_own), Some(above)) = (parts.next(), parts.next(), parts.next()) else { return 0 };
    killed_for_memory(&[above, b"/", file].concat()).unwrap_or(0)
}

/// Whether a process that ended with `code` was killed for want of memory. systemd removes a scope's cgroup as soon as it
/// is empty, at times before it can be read: then what the cgroup above counts tells, compared with `before`.
pub fn ended_for_memory(path: &[u8], code: u32, before: u32) -> bool {
    const KILLED: u32 = 128 + sys::SIGKILL;
    killed_for_memory(path).map_or_else(|| code == KILLED && killed_above(path) > before, |count| count > 0)
}
