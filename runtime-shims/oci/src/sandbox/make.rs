//! `RunPodSandbox`: written down first, then made, then called made.
//!
//! Must not know: gRPC.

use std::sync::Arc;

use anyhow::Context as _;
use pintle_bundle::{SandboxNamespaces, cgroup_dir, sandbox_namespaces, sandbox_sysctls};
use pintle_cni::{Bandwidth, Capabilities, Dns, Pod, PortMapping};
use pintle_cri::v1;
use pintle_cri::v1::ContainerEventType as Event;

use super::{files, pause, stop, watch};
use crate::clock;
use crate::drivers::namespaces::{self, Wanted};
use crate::error::{Error, Result};
use crate::runtime::Shared;
use crate::state::{Entry, Sandbox, VERSION};

/// The kernel's bound.
const LONGEST_HOST_NAME: usize = 64;

/// Makes a sandbox; its ID.
pub async fn run(shared: &Arc<Shared>, request: v1::RunPodSandboxRequest) -> Result<String> {
    let config = request.config.ok_or_else(|| Error::Invalid("config is missing".into()))?;
    if config.metadata.is_none() {
        return Err(Error::Invalid("config.metadata is missing".into()));
    }
    shared.launcher(&request.runtime_handler)?;
    let own = sandbox_namespaces(&config)?;
    if own.uts && pintle_bundle::hostname(&config, &shared.host).len() > LONGEST_HOST_NAME {
        return Err(Error::Invalid(format!("hostname is longer than {LONGEST_HOST_NAME} bytes")));
    }
    let ports = ports(&config)?;
    let id = crate::plan::id(rand::random());
    // its containers' cgroups will be there
    cgroup_dir(config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent), &id, &shared.host)?;
    let pods = shared.sandboxes.all();
    let taken = |level: &str| pods.iter().any(|pod| pod.now().selinux_level == level);
    let selinux_level = pintle_bundle::selinux_level(&config, &shared.host, rand::random, taken);
    let entry = shared.sandboxes.add(Sandbox {
        version: VERSION,
        selinux_level,
        id,
        config,
        handler: request.runtime_handler,
        created_at: clock::now(),
        ..Sandbox::default()
    })?;
    let _turn = entry.turn().await;
    let made = make(shared, &entry, &own, ports).await;
    if let Err(error) = made {
        undo(shared, &entry).await;
        return Err(error);
    }
    let record = entry.now();
    shared.events.of_sandbox(Event::ContainerCreatedEvent, &record, &shared.containers);
    shared.events.of_sandbox(Event::ContainerStartedEvent, &record, &shared.containers);
    Ok(entry.id.clone())
}

async fn make(
    shared: &Arc<Shared>,
    entry: &Arc<Entry<Sandbox>>,
    own: &SandboxNamespaces,
    ports: Vec<PortMapping>,
) -> Result<()> {
    files::make(shared, entry, own)?;
    let monitor = async { shared.monitors.spawn(&entry.id).await.map_err(Error::from) };
    let network = async {
        make_namespaces(shared, entry, own).await?;
        if own.net { attach(shared, entry, ports).await } else { Ok(Vec::new()) }
    };
    // both to their end: a monitor whose start nobody waits for would be known to nobody
    let (monitor, ips) = tokio::join!(monitor, network);
    let (monitor, ips) = (monitor?, ips?);
    if own.pid {
        pause::start(shared, entry, &monitor).await?;
    }
    watch::follow(shared, entry.id.clone(), &monitor).await?;
    entry.change(|record| {
        record.ips = ips;
        record.made = true;
    })?;
    Ok(())
}

async fn make_namespaces(shared: &Arc<Shared>, entry: &Entry<Sandbox>, own: &SandboxNamespaces) -> Result<()> {
    let record = entry.now();
    let name = pintle_bundle::hostname(&record.config, &shared.host).to_owned();
    let sysctls = sandbox_sysctls(&record.config, &shared.host)?;
    let wanted =
        Wanted { net: own.net, ipc: own.ipc, uts: own.uts.then_some(name), sysctls: sysctls.into_iter().collect() };
    let dir = shared.namespaces_of(&entry.id);
    if let Some(users) = &own.user {
        return Ok(shared.own_launcher().namespaces(&dir, &wanted, users).await?);
    }
    let made = tokio::task::spawn_blocking(move || namespaces::pin(&dir, &wanted)).await;
    Ok(made.context("making namespaces")??)
}

/// Joins the pod network; the addresses.
async fn attach(shared: &Arc<Shared>, entry: &Entry<Sandbox>, port_mappings: Vec<PortMapping>) -> Result<Vec<String>> {
    let bandwidth = Bandwidth::asked(&entry.now().config.annotations);
    let bandwidth = bandwidth.map_err(|why| Error::Invalid(format!("reading pod bandwidth annotations: {why}")))?;
    entry.change(|record| record.on_network = true)?;
    let record = entry.now();
    let metadata = record.metadata();
    let pod = Pod {
        id: entry.id.clone(),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        netns: shared.namespaces_of(&entry.id).join("net"),
        capabilities: Capabilities {
            port_mappings,
            dns: record.config.dns_config.clone().map(|dns| Dns {
                servers: dns.servers,
                searches: dns.searches,
                options: dns.options,
            }),
            cgroup_path: Some(record.cgroup_parent().to_owned()).filter(|path| !path.is_empty()),
            bandwidth,
            annotations: record.config.annotations.clone().into_iter().collect(),
            ..Capabilities::default()
        },
    };
    let added = shared.network.add(&pod).await;
    let added = added.with_context(|| format!("failed to set up network for sandbox {:?}", entry.id))?;
    let ips: Vec<String> = added.addresses().iter().map(ToString::to_string).collect();
    if ips.is_empty() {
        return Err(anyhow::anyhow!("the network gave sandbox {:?} no address", entry.id).into());
    }
    Ok(ips)
}

/// Those that the host shall have; kubelets name a container's other ports, too.
fn ports(config: &v1::PodSandboxConfig) -> Result<Vec<PortMapping>> {
    let port = |name: &str, number: i32| {
        let valid = u16::try_from(number).ok().filter(|port| *port > 0);
        valid.ok_or_else(|| Error::Invalid(format!("port_mappings: {name} {number} is no port")))
    };
    let wanted = config.port_mappings.iter().filter(|mapping| mapping.host_port != 0);
    wanted
        .map(|mapping| {
            Ok(PortMapping {
                host_port: port("host_port", mapping.host_port)?,
                container_port: port("container_port", mapping.container_port)?,
                protocol: mapping.protocol().as_str_name().to_lowercase(),
                host_ip: mapping.host_ip.clone(),
            })
        })
        .collect()
}

/// Takes back whatever was made of it. One of which something stays (a network plugin's daemon is away) is shown as a pod
/// that is not ready: whoever asked for it tries again, under another attempt, and removes this one when that works.
pub async fn undo(shared: &Arc<Shared>, entry: &Entry<Sandbox>) {
    let undone = async {
        stop::take_down(shared, entry).await?;
        super::remove::forget(shared, entry).await
    };
    if let Err(error) = undone.await {
        tracing::warn!(sandbox = entry.id, "what a failed start left cannot be removed yet: {error}");
        entry.note(|record| (record.made, record.stopping) = (true, true));
    }
}
