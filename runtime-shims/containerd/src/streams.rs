//! A container's standard streams: pipes by name, which containerd's shim opens. The pod's monitor holds our ends, writes
//! the log, and serves whoever attaches.
//!
//! The monitor outlives us, so killing or upgrading us loses no byte: what a container wrote is in the pipe or in the
//! monitor until it is in the log.
//! Must not know: containerd's API, streaming protocols.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pintle_monitor::{Attach, Error, Keep, Monitor};

use crate::Inner;
use crate::record::ContainerRecord;
use crate::tasks::Pipes;

impl Inner {
    /// Makes the pipes of a container and has them read.
    pub(crate) async fn keep_streams(&self, record: &ContainerRecord) -> anyhow::Result<(Pipes, Monitor)> {
        let dir = self.config.container_state(&record.id);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        if let Some(above) = record.state.log_path.as_deref().and_then(Path::parent) {
            fs::create_dir_all(above).with_context(|| format!("making {}", above.display()))?;
        }
        let (pipes, keep) = open(&dir, record)?;
        let monitor = self.monitor(&record.state.sandbox).await?;
        // a run that was killed may have left it so
        gone(monitor.forget(&record.id).await)?;
        monitor.keep(keep).await?;
        Ok((pipes, monitor))
    }

    /// Lets go of the pipes of a container that has no process any more. One whose caller gave its start up may never have
    /// had one, and its pipes no end.
    pub(crate) async fn forget_streams(&self, record: &ContainerRecord) {
        // where there is no monitor, nothing is kept
        if let Ok(monitor) = self.monitor_of(record).await {
            forget(&monitor, &record.id).await;
        }
    }

    /// Has a container's log opened anew, after it was renamed.
    pub(crate) async fn reopen_log(&self, record: &ContainerRecord) -> anyhow::Result<()> {
        Ok(self.monitor_of(record).await?.reopen_log(&record.id).await?)
    }

    /// Joins the streams of a container that runs.
    pub(crate) async fn join_streams(&self, record: &ContainerRecord, ends: Attach) -> anyhow::Result<()> {
        Ok(self.monitor_of(record).await?.attach(&record.id, ends).await?)
    }

    async fn monitor_of(&self, record: &ContainerRecord) -> Result<Monitor, Error> {
        Monitor::connect(&self.config.sandbox_state(&record.state.sandbox)).await
    }

    /// The pod's monitor: begun with its first container, ended by the removal of its folder.
    async fn monitor(&self, sandbox: &str) -> Result<Monitor, Error> {
        let dir = self.config.sandbox_state(sandbox);
        match Monitor::spawn(&dir, &[]).await {
            Err(Error::Serves(_)) => Monitor::connect(&dir).await,
            spawned => spawned,
        }
    }
}

/// Lets go of the pipes of a container that could not be started: they may never have a writer, and a monitor ends with
/// the last of what it keeps. By the connection that they were handed over on, for a pod that was removed meanwhile has
/// no socket any more.
pub(crate) async fn forget(monitor: &Monitor, container: &str) {
    if let Err(error) = gone(monitor.forget(container).await) {
        tracing::debug!(container, "the pipes of a container stay: {error}");
    }
}

/// Not being there is as good as having gone.
fn gone(forgotten: Result<(), Error>) -> Result<(), Error> {
    match forgotten {
        Err(Error::NotFound(_)) => Ok(()),
        forgotten => forgotten,
    }
}

/// The pipes as containerd is told of them, and our ends.
fn open(dir: &Path, record: &ContainerRecord) -> anyhow::Result<(Pipes, Keep)> {
    let terminal = record.config.tty;
    let mut pipes = Pipes { terminal, stdout: pipe(dir, "stdout")?, ..Pipes::default() };
    let mut keep = Keep {
        id: record.id.clone(),
        log: record.state.log_path.clone(),
        terminal,
        stdin_once: record.config.stdin_once,
        stdin: None,
        // opened before its writer comes: only then does its end count
        stdout: Some(end(&pipes.stdout, false)?),
        stderr: None,
    };
    if !terminal {
        pipes.stderr = pipe(dir, "stderr")?;
        keep.stderr = Some(end(&pipes.stderr, false)?);
    }
    if record.config.stdin {
        pipes.stdin = pipe(dir, "stdin")?;
        // open at both ends: the shim must not find it without a writer, and take that for its end
        keep.stdin = Some(end(&pipes.stdin, true)?);
    }
    Ok((pipes, keep))
}

fn pipe(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("making {}", path.display()))?;
    Ok(path.display().to_string())
}

fn end(path: &str, write: bool) -> anyhow::Result<OwnedFd> {
    let file = File::options().read(true).write(write).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    Ok(file.with_context(|| format!("opening {path}"))?.into())
}
