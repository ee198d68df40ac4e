//! Exec, attach and port-forward sessions: URLs with tokens on the loopback, and what serves them.
//!
//! Must not know: who connects (the kubelet, on this machine).

mod command;
mod ports;
mod server;
mod tokens;

pub use server::{Request, Server};

use pintle_cri::streaming::bridge::Streams;
use pintle_cri::v1::{AttachRequest, ContainerConfig, ExecRequest, PodSandboxConfig, PortForwardRequest};
use tonic::Status;

use crate::Inner;
use crate::record::{ContainerRecord, SandboxRecord};
use command::Target;

impl Inner {
    /// The URL at which a command runs.
    pub async fn exec_url(&self, asked: ExecRequest) -> Result<String, Status> {
        let streams = Streams { stdin: asked.stdin, stdout: asked.stdout, stderr: asked.stderr, tty: asked.tty };
        check(streams)?;
        let process = self.exec_spec(&asked.container_id, &asked.cmd, asked.tty).await?;
        self.url(Request::Command { container: asked.container_id, target: Target::Exec(process), streams })
    }

    /// The URL at which a container's own process is joined.
    pub async fn attach_url(&self, asked: AttachRequest) -> Result<String, Status> {
        let streams = Streams { stdin: asked.stdin, stdout: asked.stdout, stderr: asked.stderr, tty: asked.tty };
        check(streams)?;
        self.running(&asked.container_id).await?;
        self.url(Request::Command { container: asked.container_id, target: Target::Own, streams })
    }

    /// The URL at which ports of a pod are reached.
    pub async fn port_forward_url(&self, asked: PortForwardRequest) -> Result<String, Status> {
        let sandbox: SandboxRecord = self.get::<PodSandboxConfig>(&asked.pod_sandbox_id).await?;
        if !self.sandbox_ready(&sandbox).await? {
            return Err(Status::failed_precondition(format!("sandbox {} is not ready", sandbox.id)));
        }
        let port = |port: &i32| u16::try_from(*port).ok().filter(|port| *port > 0);
        let ports: Option<Vec<u16>> = asked.port.iter().map(port).collect();
        let ports = ports.ok_or_else(|| Status::invalid_argument("a port is not between 1 and 65535"))?;
        self.url(Request::PortForward { network: sandbox.state.netns, ports })
    }

    fn url(&self, request: Request) -> Result<String, Status> {
        let url = self.streaming.url(request);
        url.ok_or_else(|| Status::resource_exhausted("too many streaming requests wait for their clients"))
    }

    /// The process of a command in a container that runs, as JSON.
    pub async fn exec_spec(&self, id: &str, command: &[String], terminal: bool) -> Result<Vec<u8>, Status> {
        let record = self.running(id).await?;
        let spec = serde_json::from_slice(&record.spec).map_err(crate::client::internal)?;
        let process = pintle_bundle::exec_process(&spec, command, terminal).map_err(crate::sandbox::invalid)?;
        serde_json::to_vec(&process).map_err(crate::client::internal)
    }

    async fn running(&self, id: &str) -> Result<ContainerRecord, Status> {
        let record = self.get::<ContainerConfig>(id).await?;
        let running = record.state.started_at != 0 && record.state.finished_at == 0;
        if !running || self.task(id).await?.is_none() {
            return Err(Status::failed_precondition(format!("container {id} is not running")));
        }
        Ok(record)
    }
}

fn check(streams: Streams) -> Result<(), Status> {
    if streams.tty && streams.stderr {
        return Err(Status::invalid_argument("tty and stderr cannot both be true"));
    }
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Status::invalid_argument("one of stdin, stdout, or stderr must be set"));
    }
    Ok(())
}
