//! A process in a container that somebody has the streams of: a command, or the container's own.
//!
//! Must not know: where the streams lead.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pintle_bundle::exec_process;
use pintle_cri::streaming::bridge::Streams;
use pintle_cri::streaming::server::{Ends, Process};
use pintle_cri::v1::ContainerState;
use pintle_monitor::{Attach, Monitor, Run, Stdio};
use tokio::sync::oneshot;

use super::bundle;
use crate::drivers::{launcher, monitors};
use crate::error::{Error, Result};
use crate::plan;
use crate::runtime::Shared;
use crate::state::{Container, Entry};

/// How a monitor calls commands, in contrast to containers; so do their files begin.
const COMMAND: &str = "exec-";

/// Ends commands of an earlier runtime, of which nobody will hear, and removes their files from a sandbox's state.
pub async fn end_forgotten<'a>(state: &Path, monitor: &Monitor, known: impl Iterator<Item = &'a String>) {
    for id in known.filter(|id| id.starts_with(COMMAND)) {
        // it may have ended, and is then only forgotten
        let _ = monitor.signal(id, nix::libc::SIGKILL.unsigned_abs()).await;
        let _ = monitor.forget(id).await;
    }
    let files = std::fs::read_dir(state).into_iter().flatten().flatten();
    for file in files.filter(|file| file.file_name().to_string_lossy().starts_with(COMMAND)) {
        // it goes with the sandbox at the latest
        let _ = std::fs::remove_file(file.path());
    }
}

/// What is to be entered.
#[derive(Debug)]
pub struct Target {
    pub shared: Arc<Shared>,
    pub container: Arc<Entry<Container>>,
    /// To run, or to attach where there is none.
    pub command: Option<Vec<String>>,
}

/// Can be waited for more than once.
type Ended = futures::future::Shared<oneshot::Receiver<i32>>;

/// A process that runs. Dropped before its end, a command is killed; a container goes on.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    container: Arc<Entry<Container>>,
    monitor: Monitor,
    /// Of a command; `None` is the container itself.
    command: Option<Command>,
}

#[derive(Debug)]
struct Command {
    id: String,
    files: Vec<PathBuf>,
    end: Ended,
}

impl Target {
    /// Starts the command, or attaches.
    pub async fn begin(self, ends: Ends, wanted: Streams) -> anyhow::Result<Session> {
        let monitor = self.shared.monitors.get(&self.container.now().sandbox_id)?;
        let command = match &self.command {
            Some(command) => Some(self.run(&monitor, command, ends, wanted.tty).await.map_err(Error::into_cause)?),
            None => {
                let attach = Attach { stdin: ends.stdin, stdout: ends.stdout, stderr: ends.stderr };
                monitor.attach(&self.container.id, attach).await.context("attaching to the container")?;
                None
            }
        };
        Ok(Session { shared: self.shared, container: self.container, monitor, command })
    }

    async fn run(&self, monitor: &Monitor, argv: &[String], ends: Ends, tty: bool) -> Result<Command> {
        let record = self.container.now();
        let process = exec_process(&bundle::read(&self.container)?, argv, tty)?;
        let id = format!("{COMMAND}{}", plan::id(rand::random()));
        let state = self.shared.state_of(&record.sandbox_id);
        let file_of = |kind: &str| state.join(format!("{id}.{kind}"));
        let [file, pid_file, log] = ["json", "pid", "log"].map(file_of);
        bundle::write_json(&file, &process)?;
        let handler = self.shared.sandboxes.get(&record.sandbox_id)?.now().handler.clone();
        let line = self.shared.launcher(&handler)?.exec(&file, &pid_file, &log, tty, &record.id);
        let end = self.shared.commands.expect(&record.sandbox_id, &id);
        let (stdio, attach) = if tty {
            let stdin = ends.stdin.is_some();
            let terminal = Stdio::Terminal { log: None, stdin, stdin_once: true, columns: 0, rows: 0 };
            (terminal, Attach { stdin: ends.stdin, stdout: ends.stdout, stderr: None })
        } else {
            let nothing =
                || -> std::io::Result<OwnedFd> { Ok(File::options().read(true).write(true).open("/dev/null")?.into()) };
            let or_nothing = |end: Option<OwnedFd>| end.map_or_else(nothing, Ok);
            let fds = [or_nothing(ends.stdin)?, or_nothing(ends.stdout)?, or_nothing(ends.stderr)?];
            (Stdio::Fds(fds), Attach::default())
        };
        let command = Command { id, files: vec![file, pid_file.clone(), log.clone()], end: end.shared() };
        let run = Run { stdio, attach, ..monitors::run(&command.id, line, pid_file) };
        if let Err(error) = monitor.run(run).await {
            let complaint = launcher::complaint(&std::fs::read(&log).unwrap_or_default());
            self.shared.commands.forget(&command.id);
            command.clean_up();
            return Err(if complaint.is_empty() { error.into() } else { anyhow::anyhow!(complaint).into() });
        }
        Ok(command)
    }
}

impl Command {
    fn clean_up(&self) {
        for file in &self.files {
            // they go with the sandbox at the latest
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Session {
    /// Waits for the end: the command's exit code, or `None` of a container that ended.
    pub async fn end(&self) -> anyhow::Result<Option<i32>> {
        let Some(command) = &self.command else {
            self.container.until(|record| !record.is(ContainerState::ContainerRunning)).await;
            return Ok(None);
        };
        Ok(Some(command.end.clone().await.context("the monitor of the sandbox ended")?))
    }

    fn id(&self) -> &str {
        self.command.as_ref().map_or(&self.container.id, |command| &command.id)
    }

    /// Kills a command; nothing is done to a container.
    pub async fn kill(&self) {
        if let Some(command) = &self.command {
            // it may have ended just now
            let _ = self.monitor.signal(&command.id, nix::libc::SIGKILL.unsigned_abs()).await;
        }
    }
}

impl Process for Session {
    fn ended(&self) -> BoxFuture<'_, anyhow::Result<Option<i32>>> {
        Box::pin(self.end())
    }

    fn resize(&self, columns: u16, rows: u16) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.monitor.resize(self.id(), columns, rows).await {
                tracing::debug!(container = self.container.id, "a terminal was not resized: {error}");
            }
        })
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        drop(self);
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(command) = self.command.take() else { return };
        self.shared.commands.forget(&command.id);
        command.clean_up();
        let monitor = self.monitor.clone();
        tokio::spawn(async move {
            // of one that ended nothing is left to kill, and what is known of it is not needed any more
            let _ = monitor.signal(&command.id, nix::libc::SIGKILL.unsigned_abs()).await;
            while let Err(pintle_monitor::Error::Busy(_)) = monitor.forget(&command.id).await {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        });
    }
}
