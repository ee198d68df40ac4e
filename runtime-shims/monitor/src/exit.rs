//! How processes ended: told as it happens, and read from disk.
//!
//! Must not know: what the processes were.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::monitor::Monitor;
use crate::protocol::{Exit, State, Status};

/// One process's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    pub id: String,
    pub exit: Exit,
}

/// Every exit that a monitor knows or comes to know, each at least once, until the monitor is gone.
#[derive(Debug)]
pub struct Exits {
    pub(crate) monitor: Monitor,
    pub(crate) live: Receiver<Exited>,
    pub(crate) known: VecDeque<Exited>,
}

impl Exits {
    /// The next one; none once the monitor is gone.
    pub async fn next(&mut self) -> Option<Exited> {
        loop {
            if let Some(known) = self.known.pop_front() {
                return Some(known);
            }
            match self.live.recv().await {
                Ok(exited) => return Some(exited),
                Err(RecvError::Closed) => return None,
                // Who falls behind asks again, and hears some twice.
                Err(RecvError::Lagged(_)) => self.known = exited(self.monitor.list().await.ok()?),
            }
        }
    }
}

/// Those that have exited.
pub(crate) fn exited(statuses: Vec<Status>) -> VecDeque<Exited> {
    let exited = |status: Status| match status.state {
        State::Exited { exit, .. } => Some(Exited { id: status.id, exit }),
        State::Starting | State::Running { .. } => None,
    };
    statuses.into_iter().filter_map(exited).collect()
}

/// What the monitor recorded at [`crate::Run::exit_file`]: `CODE NANOSECONDS[ oom]\n`.
///
/// # Errors
/// `NotFound` as long as the process has not ended (or its monitor was killed), `InvalidData` for anything else than the
/// monitor writes, as after a power cut.
pub fn read_exit_file(path: &Path) -> io::Result<Exit> {
    let text = std::fs::read_to_string(path)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no exit")))
}

fn parse(text: &str) -> Option<Exit> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let (code, at_ns) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let oom = match words.next() {
        None => false,
        Some("oom") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Exit { code, at_ns, oom })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_or_refused_whole() {
        assert_eq!(parse("137 12 oom\n"), Some(Exit { code: 137, at_ns: 12, oom: true }));
        assert_eq!(parse("0 12\n"), Some(Exit { code: 0, at_ns: 12, oom: false }));
        for other in ["", "\n", "0\n", "0 12", "0 12 \n", "0 12 oom \n", "-1 12\n", "0 12 killed\n"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }
}
