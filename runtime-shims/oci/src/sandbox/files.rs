//! The files that all containers of a pod see: names, resolver, shared memory.
//!
//! Must not know: their containers.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use pintle_bundle::{SandboxFiles, SandboxNamespaces, hostname, resolv_conf};

use crate::drivers::mounts;
use crate::error::Result;
use crate::plan;
use crate::runtime::Shared;
use crate::state::{Entry, Sandbox};

const HOST_SHM: &str = "/dev/shm";

/// Where they are.
pub fn of(entry: &Entry<Sandbox>, own: &SandboxNamespaces) -> SandboxFiles {
    let file = |name: &str| Some(entry.dir().join(name));
    SandboxFiles {
        hostname: file("hostname"),
        hosts: file("hosts"),
        resolv_conf: file("resolv.conf"),
        shm: Some(if own.ipc { entry.dir().join("shm") } else { HOST_SHM.into() }),
    }
}

/// Writes them, and mounts the shared memory of a pod that has its own.
pub fn make(shared: &Shared, entry: &Entry<Sandbox>, own: &SandboxNamespaces) -> Result<()> {
    let config = &entry.now().config;
    let dir = entry.dir();
    let resolver = match &config.dns_config {
        Some(dns) => resolv_conf(dns)?,
        None => host_text("/etc/resolv.conf")?,
    };
    write(dir, "resolv.conf", &resolver)?;
    write(dir, "hostname", &format!("{}\n", hostname(config, &shared.host)))?;
    write(dir, "hosts", &host_text("/etc/hosts")?)?;
    if own.ipc {
        let root = own.user.as_ref().map_or((0, 0), plan::root_of);
        mounts::shared_memory(&dir.join("shm"), root)?;
    }
    Ok(())
}

/// A machine without the file has nothing to tell.
fn host_text(path: &str) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read.with_context(|| format!("reading {path}"))?),
    }
}

fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    Ok(fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?)
}
