//! `pintle up --detach`: the same program once more, in a session of its own; its progress is shown until it is ready.
//!
//! Must not know: what it starts.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::config::Config;
use crate::progress::say;
use crate::up::READY;

/// Starts `pintle up` with our own arguments but `--detach`, and returns once it says that it is ready.
pub fn run(config: &Config) -> anyhow::Result<()> {
    fs::create_dir_all(&config.data_dir).with_context(|| format!("making {}", config.data_dir.display()))?;
    let log_file = config.data_dir.join("pintle.log");
    let log = fs::File::create(&log_file).with_context(|| format!("making {}", log_file.display()))?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != "--detach")).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    let mut child = command.spawn().context("starting pintle in the background")?;
    let lines = BufReader::new(child.stdout.take().context("the child has no output")?).lines();
    for line in lines {
        let line = line.context("reading the progress")?;
        say(&line);
        if line.starts_with(READY) {
            say(&format!("\n  Its log: {}   Stop it: pintle down", log_file.display()));
            return Ok(());
        }
    }
    let status = child.wait().context("waiting for pintle")?;
    let text = fs::read_to_string(&log_file).unwrap_or_default();
    let last = text.lines().last().unwrap_or("it said nothing");
    anyhow::bail!("it ended before it was ready ({status}): {}", last.trim_start_matches("pintle: "))
}
