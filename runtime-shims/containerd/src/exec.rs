//! Commands in a running container, as processes of containerd's shim with pipes of ours; and joining its own process.
//!
//! Must not know: streaming protocols.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1::{
    DeleteProcessRequest, ExecProcessRequest, ResizePtyRequest, StartRequest, WaitRequest,
};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pintle_cri::streaming::bridge::Streams;
use pintle_cri::streaming::server::pipes;
use pintle_cri::v1::{ExecSyncRequest, ExecSyncResponse};
use pintle_monitor::Attach;
use prost_types::Any;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tonic::Status;

use crate::Inner;
use crate::client::{During, internal, lasting, request};
use crate::record::ContainerRecord;

const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// What is kept of each output; the rest is read and dropped. Both fit the 16 MiB of an answer.
const OUTPUT_LIMIT: usize = 7 << 20;
/// How long a command may take that sets no time-out.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long after the command's end its children may hold its outputs.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const SIGKILL: u32 = 9;

/// Which pipes a command has beside its output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub stdin: bool,
    /// Output and errors come as one, from a terminal.
    pub terminal: bool,
}

/// A command that was started, to be removed when it is done with; its pipes go with it. Or the container's own process,
/// which was joined: then `exec` is empty, as in containerd's requests, and it goes on.
pub struct Running {
    runtime: Arc<Inner>,
    container: String,
    exec: String,
    dir: PathBuf,
    pub stdin: Option<Sender>,
    pub stdout: Option<Receiver>,
    pub stderr: Option<Receiver>,
}

impl Inner {
    /// Starts a process (its specification as JSON) in a container.
    pub async fn begin_exec(
        self: Arc<Self>,
        container: &str,
        process: Vec<u8>,
        wanted: Wanted,
    ) -> Result<Running, Status> {
        let exec = format!("{:016x}", rand::random::<u64>());
        let dir = self.config.container_state(container).join(format!("exec-{exec}"));
        let (container, runtime) = (container.to_owned(), self);
        let mut running = Running { runtime, container, exec, dir, stdin: None, stdout: None, stderr: None };
        let started = match running.open(wanted) {
            Ok(()) => running.start(process, wanted).await,
            Err(error) => Err(internal(error)).during("making the pipes of an exec"),
        };
        match started {
            Ok(()) => Ok(running),
            Err(status) => {
                running.remove().await;
                Err(status)
            }
        }
    }

    /// Joins the streams that are wanted of the container's own process.
    pub async fn begin_attach(self: Arc<Self>, container: &str, wanted: Streams) -> Result<Running, Status> {
        let record: ContainerRecord = self.get(container).await?;
        let (container, exec, dir) = (container.to_owned(), String::new(), PathBuf::new());
        let mut running =
            Running { runtime: self.clone(), container, exec, dir, stdin: None, stdout: None, stderr: None };
        let (near, far) = pipes(wanted).map_err(internal).during("making pipes")?;
        (running.stdin, running.stdout, running.stderr) = (near.stdin, near.stdout, near.stderr);
        let ends = Attach { stdin: far.stdin, stdout: far.stdout, stderr: far.stderr };
        self.join_streams(&record, ends).await.map_err(internal).during("failed to attach to container")?;
        Ok(running)
    }

    pub async fn exec_sync(self: Arc<Self>, asked: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        let process = self.exec_spec(&asked.container_id, &asked.cmd, false).await?;
        let mut running = self.begin_exec(&asked.container_id, process, Wanted::default()).await?;
        let seconds = u64::try_from(asked.timeout).unwrap_or(0);
        let limit = if seconds == 0 { LONGEST } else { Duration::from_secs(seconds) };
        let answer = tokio::time::timeout(limit, running.collect()).await.unwrap_or_else(|_elapsed| {
            let reason = format!("failed to exec in container: timeout {limit:?} exceeded: context deadline exceeded");
            Err(Status::deadline_exceeded(reason))
        });
        running.remove().await;
        answer
    }
}

impl Running {
    fn open(&mut self, wanted: Wanted) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let make = |name: &str| -> anyhow::Result<PathBuf> {
            let path = self.dir.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            Ok(path)
        };
        let stdout = OpenOptions::new().open_receiver(make("stdout")?)?;
        let stderr = if wanted.terminal { None } else { Some(OpenOptions::new().open_receiver(make("stderr")?)?) };
        // Open at both ends until we close it: the shim must not find it without a writer, and take that for its end.
        let stdin =
            if wanted.stdin { Some(OpenOptions::new().read_write(true).open_sender(make("stdin")?)?) } else { None };
        (self.stdin, self.stdout, self.stderr) = (stdin, Some(stdout), stderr);
        Ok(())
    }

    fn is_joined(&self) -> bool {
        self.exec.is_empty()
    }

    fn path(&self, name: &str, wanted: bool) -> String {
        if wanted { self.dir.join(name).display().to_string() } else { String::new() }
    }

    /// From then on the shim holds the writing ends, so an end of a pipe is the end of its output.
    async fn start(&self, process: Vec<u8>, wanted: Wanted) -> Result<(), Status> {
        let create = ExecProcessRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            stdin: self.path("stdin", wanted.stdin),
            stdout: self.path("stdout", true),
            stderr: self.path("stderr", !wanted.terminal),
            terminal: wanted.terminal,
            spec: Some(Any { type_url: PROCESS_TYPE.to_owned(), value: process }),
        };
        let mut tasks = self.runtime.client.tasks();
        tasks.exec(request(create)).await.during("failed to exec in container: failed to create exec")?;
        let start = StartRequest { container_id: self.container.clone(), exec_id: self.exec.clone() };
        tasks.start(request(start)).await.during("failed to exec in container: failed to start exec")?;
        Ok(())
    }

    /// The exit code, once there is one; how a process that was joined ends is nothing to who joined it.
    pub async fn wait(&self) -> Result<i32, Status> {
        let wait = WaitRequest { container_id: self.container.clone(), exec_id: self.exec.clone() };
        let ended = self.runtime.client.tasks().wait(lasting(wait)).await;
        if self.is_joined() {
            return Ok(0);
        }
        let ended = ended.during("waiting for an exec")?;
        Ok(ended.into_inner().exit_status.try_into().unwrap_or(i32::MAX))
    }

    /// Tells the command that its input has ended; the shim holds a writing end too. Whether a container's own input ends
    /// with who typed is its monitor's to decide.
    pub async fn close_stdin(&self) {
        if !self.is_joined() {
            self.tell("closing its input", self.runtime.close_input(&self.container, &self.exec).await);
        }
    }

    pub async fn resize_terminal(&self, width: u16, height: u16) {
        let resize = ResizePtyRequest {
            container_id: self.container.clone(),
            exec_id: self.exec.clone(),
            width: width.into(),
            height: height.into(),
        };
        self.tell("resizing its terminal", self.runtime.client.tasks().resize_pty(request(resize)).await);
    }

    /// A command that has just ended is no failure of what was to be done to it.
    fn tell<T>(&self, what: &str, outcome: Result<T, Status>) {
        if let Err(status) = outcome {
            tracing::debug!(container = self.container, exec = self.exec, message = status.message(), "{what} failed");
        }
    }

    /// Both outputs to their ends and the exit code; children of the command that hold an output are not waited for long.
    async fn collect(&mut self) -> Result<ExecSyncResponse, Status> {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async { tokio::join!(read(stdout, &mut out), read(stderr, &mut err)) };
        let exit = async {
            let code = self.wait().await;
            tokio::time::sleep(DRAIN_LIMIT).await;
            code
        };
        let late = tokio::select! { ((), ()) = read => None, code = exit => Some(code) };
        let exit_code = match late {
            Some(code) => code?,
            None => self.wait().await?,
        };
        Ok(ExecSyncResponse { stdout: out, stderr: err, exit_code })
    }

    /// Ends the command where it still runs, and takes back its pipes.
    pub async fn remove(self) {
        if self.is_joined() {
            return;
        }
        let runtime = &self.runtime;
        self.tell("ending a command", runtime.signal(&self.container, &self.exec, SIGKILL, true).await);
        let ended = tokio::time::timeout(DRAIN_LIMIT, self.wait()).await;
        let delete = DeleteProcessRequest { container_id: self.container.clone(), exec_id: self.exec.clone() };
        if ended.is_ok() {
            self.tell("removing a command", runtime.client.tasks().delete_process(request(delete)).await.or_gone());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn read(from: Option<Receiver>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut piece).await {
        if count == 0 {
            break;
        }
        let room = OUTPUT_LIMIT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
    }
}

/// The pipes of execs that a killed run left.
pub fn clear(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let left = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-"));
    left.for_each(|entry| drop(std::fs::remove_dir_all(entry.path())));
}
