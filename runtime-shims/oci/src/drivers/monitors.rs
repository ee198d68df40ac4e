//! The monitors of the sandboxes that there are.
//!
//! Must not know: what they run.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use pintle_monitor::{Monitor, Run};

/// Connections to monitors, by sandbox.
#[derive(Debug)]
pub struct Monitors {
    /// A folder per sandbox.
    dir: PathBuf,
    cgroups: Vec<PathBuf>,
    connected: Mutex<HashMap<String, Monitor>>,
}

impl Monitors {
    /// `cgroups` are those that the monitors run in, one per hierarchy.
    pub fn new(dir: PathBuf, cgroups: Vec<PathBuf>) -> Self {
        Self { dir, cgroups, connected: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Monitor>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, sandbox: &str) -> PathBuf {
        self.dir.join(sandbox)
    }

    /// Starts a sandbox's monitor.
    pub async fn spawn(&self, sandbox: &str) -> anyhow::Result<Monitor> {
        let dir = self.dir(sandbox);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let monitor = Monitor::spawn(&dir, &self.cgroups).await.context("starting the sandbox's monitor")?;
        self.lock().insert(sandbox.to_owned(), monitor.clone());
        Ok(monitor)
    }

    /// Connects to one that an earlier process started.
    pub async fn connect(&self, sandbox: &str) -> anyhow::Result<Monitor> {
        let monitor = Monitor::connect(&self.dir(sandbox)).await.context("connecting to the sandbox's monitor")?;
        self.lock().insert(sandbox.to_owned(), monitor.clone());
        Ok(monitor)
    }

    /// # Errors
    /// It is gone, or was never there.
    pub fn get(&self, sandbox: &str) -> anyhow::Result<Monitor> {
        self.lock().get(sandbox).cloned().with_context(|| format!("the monitor of sandbox {sandbox} is gone"))
    }

    pub fn forget(&self, sandbox: &str) -> Option<Monitor> {
        self.lock().remove(sandbox)
    }
}

/// A command line of an OCI runtime, with the environment that such programs need.
pub fn run(id: &str, line: Vec<OsString>, pid_file: PathBuf) -> Run {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin".into());
    Run { env: vec![("PATH".into(), path)], timeout: super::launcher::LIMIT, ..Run::new(id, line, pid_file) }
}
