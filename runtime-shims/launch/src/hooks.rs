//! Hooks: programs that a specification names for moments of a container's life (CDI's devices come with such).
//!
//! Must not know: what they do.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;
use oci_spec::runtime::Hook;
use serde_json::Value;

use crate::state::ended;
use crate::sys::clone::{pidfd, signal};

/// Runs hooks one after the other; each reads the container's state. The first that fails ends the row.
pub fn run(hooks: Option<&Vec<Hook>>, state: &Value) -> Result<()> {
    hooks
        .into_iter()
        .flatten()
        .try_for_each(|hook| run_one(hook, state).with_context(|| format!("the hook {} failed", hook.path().display())))
}

fn run_one(hook: &Hook, state: &Value) -> Result<()> {
    let arguments = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    command.args(arguments.iter().skip(1)).env_clear().stdin(Stdio::piped());
    if let Some(name) = arguments.first() {
        command.arg0(name);
    }
    command.envs(hook.env().iter().flatten().filter_map(|one| one.split_once('=')));
    let mut child = command.spawn().context("it cannot be run")?;
    if let Some(mut stdin) = child.stdin.take() {
        // a hook need not read
        let _ = stdin.write_all(state.to_string().as_bytes());
    }
    if let Some(seconds) = hook.timeout().filter(|seconds| *seconds > 0) {
        let fd = pidfd(Pid::from_raw(child.id() as i32)).context("it is gone")?;
        let milliseconds = u16::try_from(seconds.saturating_mul(1000)).unwrap_or(u16::MAX);
        if !ended(&fd, milliseconds) {
            let _ = signal(std::os::fd::AsFd::as_fd(&fd), nix::libc::SIGKILL);
            let _ = child.wait();
            bail!("it took longer than {seconds} s");
        }
    }
    let status = child.wait().context("it cannot be waited for")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
