//! Telling a person what is being done, step by step, each with its time.
//!
//! Must not know: what the steps are.

use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Steps on standard output, a line each, once done.
pub struct Progress {
    started: Instant,
}

impl Progress {
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Does `work`, then says `what` with the time it took. A failure carries `what`.
    pub async fn step<T>(&self, what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let begun = Instant::now();
        let done = work.await.with_context(|| what.to_owned())?;
        say(&format!("  ✓ {what:<44} {:>8}", shown(begun.elapsed())));
        Ok(done)
    }

    pub fn elapsed(&self) -> String {
        shown(self.started.elapsed())
    }
}

/// A line for the person who started us; one who has gone away is no failure.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// `12 ms`, `3.4 s`.
fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_to_read() {
        assert_eq!(shown(Duration::from_micros(12_345)), "12 ms");
        assert_eq!(shown(Duration::from_millis(3_449)), "3.4 s");
    }
}
