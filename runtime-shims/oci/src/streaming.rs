//! `Exec`, `Attach` and `PortForward`: checked now, served to whoever comes with the token.
//!
//! Must not know: gRPC.

use std::sync::Arc;

use anyhow::Context as _;
use pintle_bundle::sandbox_namespaces;
use pintle_cri::streaming::bridge::Streams;
use pintle_cri::streaming::server::{Begun, pipes, socket};
use pintle_cri::v1;

use crate::container::session::Target;
use crate::drivers::namespaces;
use crate::error::{Error, Result};
use crate::plan::lifecycle;
use crate::runtime::Shared;

/// The URL of a command.
pub fn exec(shared: &Arc<Shared>, request: v1::ExecRequest) -> Result<String> {
    if request.cmd.is_empty() {
        return Err(Error::Invalid("cmd is missing".into()));
    }
    let wanted = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty };
    command(shared, &request.container_id, Some(request.cmd), wanted)
}

/// The URL of an attachment.
pub fn attach(shared: &Arc<Shared>, request: v1::AttachRequest) -> Result<String> {
    let wanted = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty };
    command(shared, &request.container_id, None, wanted)
}

fn command(shared: &Arc<Shared>, id: &str, command: Option<Vec<String>>, wanted: Streams) -> Result<String> {
    if wanted.tty && wanted.stderr {
        return Err(Error::Invalid("tty and stderr cannot both be true".into()));
    }
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Error::Invalid("one of stdin, stdout, or stderr must be set".into()));
    }
    let container = shared.containers.get(id)?;
    lifecycle::must_run(&container.now())?;
    let target = Target { shared: shared.clone(), container, command };
    url(shared.streaming.command(wanted, Box::new(move |streams| Box::pin(begin(target, streams)))))
}

async fn begin(target: Target, streams: Streams) -> anyhow::Result<Begun> {
    let (near, far) = pipes(streams).context("making pipes")?;
    Ok(Begun { near, process: Box::new(target.begin(far, streams).await?) })
}

/// The URL of a port-forward.
pub fn port_forward(shared: &Arc<Shared>, request: v1::PortForwardRequest) -> Result<String> {
    let sandbox = shared.sandboxes.get(&request.pod_sandbox_id)?;
    lifecycle::may_join(&sandbox.now())?;
    let own = sandbox_namespaces(&sandbox.now().config)?;
    let namespace = own.net.then(|| shared.namespaces_of(&sandbox.id).join("net"));
    let ports = request.port.iter().map(|port| {
        u16::try_from(*port).ok().filter(|port| *port > 0).ok_or_else(|| Error::Invalid(format!("{port} is no port")))
    });
    let ports = ports.collect::<Result<Vec<u16>>>()?;
    let sockets = move |address| match &namespace {
        None => socket(address),
        Some(path) => namespaces::in_network(path, || socket(address)),
    };
    url(shared.streaming.forward(ports, Arc::new(sockets)))
}

fn url(issued: Option<String>) -> Result<String> {
    issued.ok_or_else(|| Error::Exhausted("too many streaming requests wait for their clients".into()))
}
