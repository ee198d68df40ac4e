//! `Exec`, `Attach` and `PortForward`: checked now, served to whoever comes with the token.
//!
//! Must not know: gRPC, streaming protocols.

use std::sync::{Arc, Weak};

use anyhow::Context;
use futures::future::BoxFuture;
use pintle_cri::streaming::bridge::Streams;
use pintle_cri::streaming::server::{Begun, Near, Process, socket};
use pintle_cri::v1::{AttachRequest, ContainerConfig, ExecRequest, PodSandboxConfig, PortForwardRequest};
use tonic::Status;

use crate::exec::{Running, Wanted};
use crate::record::{ContainerRecord, SandboxRecord};
use crate::{Inner, netns};

impl Inner {
    /// The URL at which a command runs.
    pub async fn exec_url(&self, asked: ExecRequest) -> Result<String, Status> {
        let streams = Streams { stdin: asked.stdin, stdout: asked.stdout, stderr: asked.stderr, tty: asked.tty };
        check(streams)?;
        let process = self.exec_spec(&asked.container_id, &asked.cmd, asked.tty).await?;
        self.command_url(streams, Target { container: asked.container_id, exec: Some(process) })
    }

    /// The URL at which a container's own process is joined.
    pub async fn attach_url(&self, asked: AttachRequest) -> Result<String, Status> {
        let streams = Streams { stdin: asked.stdin, stdout: asked.stdout, stderr: asked.stderr, tty: asked.tty };
        check(streams)?;
        self.running(&asked.container_id).await?;
        self.command_url(streams, Target { container: asked.container_id, exec: None })
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
        let network = sandbox.state.netns;
        let sockets = move |address| match network.clone() {
            None => socket(address),
            Some(path) => netns::inside(&path, move || socket(address)),
        };
        url(self.streaming.forward(ports, Arc::new(sockets)))
    }

    /// The runtime may end before the client comes.
    fn command_url(&self, streams: Streams, target: Target) -> Result<String, Status> {
        let this = self.this.clone();
        url(self.streaming.command(streams, Box::new(move |streams| Box::pin(begin(this, target, streams)))))
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

/// What is entered.
struct Target {
    container: String,
    /// A process specification as JSON; `None` is the container's own process.
    exec: Option<Vec<u8>>,
}

async fn begin(this: Weak<Inner>, target: Target, streams: Streams) -> anyhow::Result<Begun> {
    let runtime = this.upgrade().context("the runtime has ended")?;
    let begun = match target.exec {
        Some(process) => {
            let wanted = Wanted { stdin: streams.stdin, terminal: streams.tty };
            runtime.begin_exec(&target.container, process, wanted).await
        }
        None => runtime.begin_attach(&target.container, streams).await,
    };
    let mut running = begun.map_err(told)?;
    let near = Near { stdin: running.stdin.take(), stdout: running.stdout.take(), stderr: running.stderr.take() };
    Ok(Begun { near, process: Box::new(running) })
}

/// Why, as the client reads it.
fn told(status: Status) -> anyhow::Error {
    anyhow::Error::msg(status.message().to_owned())
}

impl Process for Running {
    fn ended(&self) -> BoxFuture<'_, anyhow::Result<Option<i32>>> {
        Box::pin(async { self.wait().await.map(Some).map_err(told) })
    }

    fn resize(&self, columns: u16, rows: u16) -> BoxFuture<'_, ()> {
        Box::pin(self.resize_terminal(columns, rows))
    }

    fn input_ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.close_stdin())
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.remove())
    }
}

fn url(issued: Option<String>) -> Result<String, Status> {
    issued.ok_or_else(|| Status::resource_exhausted("too many streaming requests wait for their clients"))
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
