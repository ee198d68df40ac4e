//! `ExecSync`: a command in a running container, its output and exit code.
//!
//! Must not know: streaming.

use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1::{DeleteProcessRequest, ExecProcessRequest, StartRequest, WaitRequest};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use oci_spec::runtime::Spec;
use pintle_bundle::exec_process;
use pintle_cri::v1::{ContainerConfig, ExecSyncRequest, ExecSyncResponse};
use prost_types::Any;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tonic::{Code, Status};

use crate::Inner;
use crate::client::{During, internal, lasting, request};
use crate::record::Record;
use crate::sandbox::invalid;

const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/// What is kept of each output; the rest is read and dropped. Both fit the 16 MiB of an answer.
const OUTPUT_LIMIT: usize = 7 << 20;
/// How long a command may take that sets no time-out.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long after the command's end its children may hold its outputs.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const SIGKILL: u32 = 9;

/// The pipes of one exec; gone when it is dropped.
struct Outputs {
    dir: PathBuf,
    stdout: Receiver,
    stderr: Receiver,
}

impl Outputs {
    fn open(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let open = |name: &str| -> anyhow::Result<Receiver> {
            let path = dir.join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            Ok(OpenOptions::new().open_receiver(&path)?)
        };
        let (stdout, stderr) = (open("stdout")?, open("stderr")?);
        Ok(Self { dir, stdout, stderr })
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Inner {
    pub async fn exec_sync(&self, asked: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        let record: Record<ContainerConfig> = self.get(&asked.container_id).await?;
        let running = record.state.started_at != 0 && record.state.finished_at == 0;
        if !running || self.task(&record.id).await?.is_none() {
            return Err(Status::failed_precondition(format!("container {} is not running", record.id)));
        }
        let spec: Spec = serde_json::from_slice(&record.spec).map_err(internal)?;
        let process = exec_process(&spec, &asked.cmd, false).map_err(invalid)?;
        let exec = format!("{:016x}", rand::random::<u64>());
        let dir = self.config.container_state(&record.id).join(format!("exec-{exec}"));
        let outputs = Outputs::open(dir).map_err(internal).during("making the pipes of an exec")?;
        let value = serde_json::to_vec(&process).map_err(internal)?;
        self.create_exec(&record.id, &exec, value, &outputs).await?;
        let answer = self.run_exec(&asked, &record.id, &exec, outputs).await;
        let delete = DeleteProcessRequest { container_id: record.id.clone(), exec_id: exec };
        if let Err(status) = self.client.tasks().delete_process(request(delete)).await.or_gone() {
            tracing::warn!(container = record.id, message = status.message(), "an exec was not removed");
        }
        answer
    }

    async fn create_exec(&self, id: &str, exec: &str, process: Vec<u8>, outputs: &Outputs) -> Result<(), Status> {
        let create = ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            stdout: outputs.path("stdout"),
            stderr: outputs.path("stderr"),
            spec: Some(Any { type_url: PROCESS_TYPE.to_owned(), value: process }),
            ..ExecProcessRequest::default()
        };
        self.client.tasks().exec(request(create)).await.during("failed to exec in container: failed to create exec")?;
        Ok(())
    }

    async fn run_exec(
        &self,
        asked: &ExecSyncRequest,
        id: &str,
        exec: &str,
        mut outputs: Outputs,
    ) -> Result<ExecSyncResponse, Status> {
        let start = StartRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        self.client.tasks().start(request(start)).await.during("failed to exec in container: failed to start exec")?;
        let seconds = u64::try_from(asked.timeout).unwrap_or(0);
        let limit = if seconds == 0 { LONGEST } else { Duration::from_secs(seconds) };
        // From here on the shim holds the writing ends, so an end of a pipe is the end of its output.
        let read = async { tokio::join!(read(&mut outputs.stdout), read(&mut outputs.stderr)) };
        let run = async {
            let wait = WaitRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
            let mut tasks = self.client.tasks();
            let ended = async {
                let code = tasks.wait(lasting(wait)).await.during("waiting for an exec")?.into_inner().exit_status;
                tokio::time::sleep(DRAIN_LIMIT).await;
                Ok::<u32, Status>(code)
            };
            finish(ended, read, || self.exit_of(id, exec)).await
        };
        match tokio::time::timeout(limit, run).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.signal(id, exec, SIGKILL, true).await?;
                let reason =
                    format!("failed to exec in container: timeout {limit:?} exceeded: context deadline exceeded");
                Err(Status::new(Code::DeadlineExceeded, reason))
            }
        }
    }

    /// The exit code of an exec whose outputs have ended.
    async fn exit_of(&self, id: &str, exec: &str) -> Result<u32, Status> {
        let wait = WaitRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let ended = self.client.tasks().wait(lasting(wait)).await.during("waiting for an exec")?;
        Ok(ended.into_inner().exit_status)
    }
}

/// Both outputs to their ends and then the exit code; or, when children hold the outputs, the code and what came so far.
async fn finish<E, R, X>(ended: E, read: R, exit: impl FnOnce() -> X) -> Result<ExecSyncResponse, Status>
where
    E: Future<Output = Result<u32, Status>>,
    R: Future<Output = (Vec<u8>, Vec<u8>)>,
    X: Future<Output = Result<u32, Status>>,
{
    tokio::select! {
        (stdout, stderr) = read => {
            let exit_code = exit().await?.try_into().unwrap_or(i32::MAX);
            Ok(ExecSyncResponse { stdout, stderr, exit_code })
        }
        code = ended => {
            let exit_code = code?.try_into().unwrap_or(i32::MAX);
            Ok(ExecSyncResponse { exit_code, ..ExecSyncResponse::default() })
        }
    }
}

async fn read(pipe: &mut Receiver) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while let Ok(count) = pipe.read(&mut piece).await {
        if count == 0 {
            break;
        }
        let room = OUTPUT_LIMIT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
    }
    kept
}

/// The pipes of execs that a killed run left.
pub fn clear(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let left = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-"));
    left.for_each(|entry| drop(std::fs::remove_dir_all(entry.path())));
}
