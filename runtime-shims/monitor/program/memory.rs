//! Whether a process was killed for want of memory, which its cgroup counts.
//!
//! systemd removes a scope's cgroup as soon as it is empty, at times before it can be read. Then, of v2, the cgroup above
//! tells, which counts its children's too; of v1 none does, so the kernel is asked to tell of every want of memory there.
//! Must not know: how else a process ends.

use alloc::format;
use alloc::vec::Vec;

use crate::sys::{self, Fd, Open, POLLIN, Poll, Result};

/// The code of a process that was killed.
const KILLED: u32 = 128 + sys::SIGKILL;
/// How long the kernel is awaited, who tells within milliseconds that a cgroup is gone.
const GONE_MS: u64 = 1000;

#[derive(Debug)]
pub struct Memory {
    /// `memory.events` of v2, `memory.oom_control` of v1.
    path: Vec<u8>,
    /// What the cgroup above had counted when the process began.
    before: u32,
    watch: Option<Watch>,
}

impl Memory {
    pub fn of(path: Vec<u8>) -> Memory {
        Memory { path, before: 0, watch: None }
    }

    /// The cgroup is there, and its process does not run yet.
    pub fn begin(&mut self) {
        self.before = killed_above(&self.path);
        self.watch = Watch::begin(&self.path).ok().flatten();
    }

    /// Whether the process, which has ended with `code`, was killed for want of memory.
    pub fn killed(&self, code: u32) -> bool {
        let above = || killed_above(&self.path) > self.before;
        let seen = || self.watch.as_ref().is_some_and(Watch::saw_want);
        killed(&self.path).map_or_else(|| code == KILLED && (above() || seen()), |count| count > 0)
    }
}

/// How many processes a cgroup counts that were killed for want of memory; none when there is no such file.
fn killed(path: &[u8]) -> Option<u32> {
    let text: Vec<u8> = sys::read_file(path, 4096).ok()?;
    let counted = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"oom_kill "));
    Some(counted.and_then(|count| core::str::from_utf8(count).ok()?.parse().ok()).unwrap_or(0))
}

/// The same of the cgroup above.
fn killed_above(path: &[u8]) -> u32 {
    let mut parts = path.rsplitn(3, |byte| *byte == b'/');
    let (Some(file), Some(_own), Some(above)) = (parts.next(), parts.next(), parts.next()) else { return 0 };
    killed(&[above, b"/", file].concat()).unwrap_or(0)
}

/// What the kernel tells of a scope's cgroup of v1. It counts each want of memory, and once more that the cgroup is gone:
/// `gone`, which counts that alone, tells the one from the other.
#[derive(Debug)]
struct Watch {
    wants: Fd,
    gone: Fd,
}

impl Watch {
    /// None for what is no scope of v1: nobody but us removes it.
    fn begin(path: &[u8]) -> Result<Option<Watch>> {
        let Some(dir) = path.strip_suffix(b"/memory.oom_control").filter(|dir| dir.ends_with(b".scope")) else {
            return Ok(None);
        };
        let control = sys::open(&[dir, b"/cgroup.event_control"].concat(), Open::Write)?;
        // told in this order that the cgroup is gone: who came last is told first
        let gone = sys::event_counter()?;
        let usage = sys::open(&[dir, b"/memory.usage_in_bytes"].concat(), Open::Read)?;
        control.write_all(format!("{} {} -1", gone.number(), usage.number()).as_bytes())?;
        let wants = sys::event_counter()?;
        let wanted = sys::open(path, Open::Read)?;
        control.write_all(format!("{} {}", wants.number(), wanted.number()).as_bytes())?;
        Ok(Some(Watch { wants, gone }))
    }

    /// Whether there was a want of memory. The cgroup is gone, or goes at this moment.
    fn saw_want(&self) -> bool {
        let mut polls = [Poll { fd: self.gone.number(), events: POLLIN, found: 0 }];
        let _ = sys::poll(&mut polls, Some(GONE_MS));
        let gone = u64::from(polls.iter().any(|poll| poll.found & POLLIN != 0));
        let mut count = [0; 8];
        self.wants.read(&mut count).is_ok() && u64::from_ne_bytes(count) > gone
    }
}
