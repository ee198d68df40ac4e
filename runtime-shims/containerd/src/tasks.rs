//! containerd's tasks: the running part of a container.
//!
//! Must not know: CRI.

use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1::{
    CloseIoRequest, CreateTaskRequest, DeleteTaskRequest, GetRequest, KillRequest, StartRequest, WaitRequest,
};
use containerd_client::types::Mount;
use containerd_client::types::v1::{Process, Status as TaskStatus};
use pintle_cri::metrics::{Cgroup, value_of};
use prost_types::{Any, Timestamp};
use tonic::Status;

use crate::Inner;
use crate::client::{During, is_gone, lasting, request};
use crate::record::{ContainerRecord, State, now};

/// How long containerd may take to tell that a killed process has ended.
const KILL_LIMIT: Duration = Duration::from_secs(30);
const SIGKILL: u32 = 9;

/// Pipes of a task, as paths that containerd's shim opens; empty for none.
#[derive(Clone, Debug, Default)]
pub struct Pipes {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// Options of containerd's runc shim (`containerd.runc.v1.Options`), as far as we set them.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
}

impl Inner {
    pub fn shim_options(&self) -> Any {
        let systemd_cgroup = self.config.cgroup_driver == pintle_bundle::CgroupDriver::Systemd;
        let value = prost::Message::encode_to_vec(&RuncOptions { systemd_cgroup });
        Any { type_url: "containerd.runc.v1.Options".to_owned(), value }
    }

    /// Makes the task of a container: its process exists, and waits to be started.
    pub async fn create_task(&self, id: &str, rootfs: Vec<Mount>, pipes: Pipes) -> Result<u32, Status> {
        let create = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin: pipes.stdin,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            terminal: pipes.terminal,
            options: Some(self.shim_options()),
            ..CreateTaskRequest::default()
        };
        let created = self.client.tasks().create(request(create)).await.during("failed to create containerd task")?;
        Ok(created.into_inner().pid)
    }

    pub async fn start_task(&self, id: &str) -> Result<(), Status> {
        let start = StartRequest { container_id: id.to_owned(), ..StartRequest::default() };
        self.client.tasks().start(request(start)).await.during("failed to start containerd task")?;
        Ok(())
    }

    /// Closes the shim's own writing end of an input; `exec` is empty for the container's own process.
    pub async fn close_input(&self, id: &str, exec: &str) -> Result<(), Status> {
        let close = CloseIoRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), stdin: true };
        self.client.tasks().close_io(request(close)).await.or_gone().during("closing an input").map(drop)
    }

    /// The process of a task; `None` when the container has no task.
    pub async fn task(&self, id: &str) -> Result<Option<Process>, Status> {
        let get = GetRequest { container_id: id.to_owned(), ..GetRequest::default() };
        let found = self.client.tasks().get(request(get)).await.or_gone()?;
        Ok(found.and_then(|found| found.into_inner().process))
    }

    /// Sends a signal; to every process of the container with `all`. `false` when there is nobody to get it.
    pub async fn signal(&self, id: &str, exec: &str, signal: u32, all: bool) -> Result<bool, Status> {
        let kill = KillRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), signal, all };
        match self.client.tasks().kill(request(kill)).await {
            Ok(_) => Ok(true),
            Err(status) if is_gone(&status) => Ok(false),
            // What ended between is told as a failure whose text says so.
            Err(status) if status.message().contains("already finished") => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Waits until a task has ended, no longer than `limit`; `false` when it still runs then.
    pub async fn wait_task(&self, id: &str, limit: Duration) -> Result<bool, Status> {
        let wait = WaitRequest { container_id: id.to_owned(), ..WaitRequest::default() };
        match tokio::time::timeout(limit, self.client.tasks().wait(lasting(wait))).await {
            Err(_elapsed) => Ok(false),
            Ok(ended) => ended.or_gone().map(|_| true),
        }
    }

    /// Kills a task's processes and waits for the end.
    pub async fn kill_task(&self, id: &str) -> Result<(), Status> {
        if self.task(id).await?.is_none_or(|task| task.status() == TaskStatus::Stopped) {
            return Ok(());
        }
        self.signal(id, "", SIGKILL, true).await.during("killing a container")?;
        match self.wait_task(id, KILL_LIMIT).await? {
            true => Ok(()),
            false => Err(Status::deadline_exceeded(format!("container {id} did not end within {KILL_LIMIT:?}"))),
        }
    }

    pub async fn delete_task(&self, id: &str) -> Result<(), Status> {
        let delete = DeleteTaskRequest { container_id: id.to_owned() };
        self.client.tasks().delete(request(delete)).await.or_gone().during("deleting a task")?;
        Ok(())
    }

    /// Records the end of a container whose task has stopped or is gone, and deletes the task; its state.
    pub async fn settle(&self, id: &str) -> Result<State, Status> {
        // One at a time: an event and a question may both see the end first.
        let _turn = self.recording.lock().await;
        let record: ContainerRecord = self.get(id).await?;
        let mut state = record.state;
        if state.started_at == 0 || state.finished_at != 0 {
            return Ok(state);
        }
        match self.task(id).await? {
            Some(task) if task.status() != TaskStatus::Stopped => return Ok(state),
            Some(task) => {
                state.exit_code = task.exit_status.try_into().unwrap_or(i32::MAX);
                state.finished_at = nanoseconds(task.exited_at);
            }
            // A restart of the machine or of the shim took the task, and with it the code.
            None => {
                state.exit_code = 255;
                state.finished_at = now();
                state.message = "the container's exit code is not known: its shim is gone".to_owned();
            }
        }
        // containerd's own word of it may come later than the end
        state.out_of_memory |= state.kills.as_deref().is_some_and(killed);
        self.write_state(id, &state).await?;
        // The end is recorded; a task that stays for now goes with its container.
        if let Err(status) = self.delete_task(id).await {
            tracing::debug!(container = id, message = status.message(), "the task of a container that ended stays");
        }
        Ok(state)
    }

    /// Records that the kernel killed a process of a container for its memory.
    pub async fn record_out_of_memory(&self, id: &str) -> Result<(), Status> {
        let _turn = self.recording.lock().await;
        let Some(record): Option<ContainerRecord> = self.find(id).await? else { return Ok(()) };
        self.write_state(id, &State { out_of_memory: true, ..record.state }).await
    }
}

/// The file in which the kernel counts whom it kills for the memory of a process's cgroup.
pub fn kills(pid: u32) -> Option<PathBuf> {
    let cgroup = Cgroup::of_process(pid)?;
    Some(cgroup.file("memory", if cgroup.is_v2() { "memory.events" } else { "memory.oom_control" }))
}

fn killed(counts: &Path) -> bool {
    let text = std::fs::read_to_string(counts).unwrap_or_default();
    value_of(&text, "oom_kill").is_some_and(|count| count > 0)
}

fn nanoseconds(time: Option<Timestamp>) -> i64 {
    let time = time.unwrap_or_default();
    let sum = time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos.into());
    if sum > 0 { sum } else { now() }
}
