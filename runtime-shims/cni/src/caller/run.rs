//! Running one plugin: Pintle's own on a thread of this process, others as programs, with a bound on time and output.
//!
//! Must not know: chains, and what is kept.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::error::{CallError, PluginError};
use crate::conf::PLUGIN_NAME;
use crate::plugin;

/// A plugin's document, and what it complains, may be this long.
const MOST_OUTPUT: u64 = 1 << 20;

/// Calls of our own plugin that work at once: each hears of every link that another one makes, so that hundreds side by
/// side would do nothing but listen to each other.
static WORKING: Semaphore = Semaphore::const_new(8);

/// One call of one plugin.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub plugin: String,
    /// ADD, DEL, CHECK, GC, STATUS or VERSION.
    pub command: &'static str,
    /// `CNI_…` variables, besides the command and the path.
    pub env: Vec<(&'static str, String)>,
    pub stdin: Value,
}

/// Where plugins are, and how long one may take.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub dirs: Vec<PathBuf>,
    pub within: Duration,
}

impl Programs {
    /// Runs the plugin; the document it printed, `Null` when that is none.
    pub async fn run(&self, call: Call) -> Result<Value, CallError> {
        let (code, stdout, stderr) = match call.plugin == PLUGIN_NAME {
            true => in_process(&call).await?,
            false => self.execute(&call).await?,
        };
        let text = String::from_utf8_lossy(&stdout);
        if code != Some(0) {
            return Err(refusal(&call, code, &text, &stderr));
        }
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| broken(&call, format!("it printed no document: {error}")))
    }

    fn find(&self, plugin: &str) -> Result<PathBuf, CallError> {
        let runs =
            |path: &PathBuf| path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        let found = self.dirs.iter().map(|dir| dir.join(plugin)).find(runs);
        found.ok_or_else(|| CallError::NoPlugin { plugin: plugin.into(), path: self.dirs.clone() })
    }

    async fn execute(&self, call: &Call) -> Result<Ended, CallError> {
        let program = self.find(&call.plugin)?;
        let mut child = self.start(&program, call)?;
        let group = child.id();
        let ended = tokio::time::timeout(self.within, exchange(&mut child, call)).await;
        let Ok(ended) = ended else {
            // Its own children, such as an address manager, go with it.
            if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = child.wait().await;
            let (plugin, command, within) = (call.plugin.clone(), call.command, self.within);
            return Err(CallError::TimedOut { plugin, command, within });
        };
        ended.map_err(|error| broken(call, error.to_string()))
    }

    fn start(&self, program: &Path, call: &Call) -> Result<Child, CallError> {
        let path = std::env::join_paths(&self.dirs).map_err(|error| broken(call, error.to_string()))?;
        let mut command = Command::new(program);
        command.env("CNI_COMMAND", call.command).env("CNI_PATH", path).envs(call.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command.spawn().map_err(|error| broken(call, format!("cannot start {}: {error}", program.display())))
    }
}

/// Exit code (none after a signal), stdout, stderr.
type Ended = (Option<i32>, Vec<u8>, Vec<u8>);

async fn exchange(child: &mut Child, call: &Call) -> std::io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let text = call.stdin.to_string();
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its configuration says why on stdout.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    let read = async {
        match stdout {
            Some(stdout) => stdout.take(MOST_OUTPUT).read_to_end(&mut printed).await.map(drop),
            None => Ok(()),
        }
    };
    let listen = async {
        match stderr {
            Some(stderr) => stderr.take(MOST_OUTPUT).read_to_end(&mut complained).await.map(drop),
            None => Ok(()),
        }
    };
    let ((), read, listen) = tokio::join!(write, read, listen);
    read.and(listen)?;
    let status = child.wait().await?;
    Ok((status.code(), printed, complained))
}

/// Without a bound of its own: each step of our plugin has one.
async fn in_process(call: &Call) -> Result<Ended, CallError> {
    let told = call.env.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let env: HashMap<_, _> = told.chain([("CNI_COMMAND".to_owned(), call.command.to_owned())]).collect();
    let stdin = call.stdin.to_string();
    // it is never closed
    let _turn = WORKING.acquire().await;
    let outcome = tokio::task::spawn_blocking(move || plugin::call(&env, stdin.as_bytes())).await;
    let outcome = outcome.map_err(|error| broken(call, error.to_string()))?;
    Ok((Some(outcome.code), outcome.stdout.into_bytes(), Vec::new()))
}

fn refusal(call: &Call, code: Option<i32>, stdout: &str, stderr: &[u8]) -> CallError {
    if let Ok(error) = serde_json::from_str::<PluginError>(stdout) {
        return CallError::Refused { plugin: call.plugin.clone(), command: call.command, error };
    }
    let said = String::from_utf8_lossy(stderr);
    let end = code.map_or("it was killed".to_owned(), |code| format!("it ended with code {code}"));
    broken(call, format!("{end} and said {:?}", said.trim()))
}

fn broken(call: &Call, why: String) -> CallError {
    CallError::Broken { plugin: call.plugin.clone(), command: call.command, why }
}
