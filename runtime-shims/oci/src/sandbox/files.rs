//! The files that all containers of a pod see: names, resolver, shared memory. They end with the machine, and lie where no
//! disk has to make and forget them.
//!
//! Must not know: their containers.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pintle_bundle::{SandboxFiles, SandboxNamespaces, hostname, resolv_conf};

use crate::drivers::mounts;
use crate::error::Result;
use crate::plan;
use crate::runtime::Shared;
use crate::state::{Entry, Sandbox};

const HOST_SHM: &str = "/dev/shm";

/// Where they are.
pub fn of(shared: &Shared, entry: &Entry<Sandbox>, own: &SandboxNamespaces) -> SandboxFiles {
    let dir = shared.state_of(&entry.id);
    let file = |name: &str| Some(dir.join(name));
    SandboxFiles {
        hostname: file("hostname"),
        hosts: file("hosts"),
        resolv_conf: file("resolv.conf"),
        shm: Some(if own.ipc { shared_memory(shared, &entry.id) } else { HOST_SHM.into() }),
    }
}

/// Where the shared memory of a pod is that has its own.
pub fn shared_memory(shared: &Shared, sandbox: &str) -> PathBuf {
    shared.state_of(sandbox).join("shm")
}

/// Writes them, and mounts the shared memory of a pod that has its own.
pub fn make(shared: &Shared, entry: &Entry<Sandbox>, own: &SandboxNamespaces) -> Result<()> {
    let config = &entry.now().config;
    let dir = &shared.state_of(&entry.id);
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let resolver = match resolv_conf(&config.dns_config.clone().unwrap_or_default())? {
        nothing if nothing.is_empty() => host_text("/etc/resolv.conf")?,
        resolver => resolver,
    };
    let root = own.user.as_ref().map_or((0, 0), plan::root_of);
    write(dir, "resolv.conf", &resolver, root)?;
    write(dir, "hostname", &format!("{}\n", hostname(config, &shared.host)), root)?;
    write(dir, "hosts", &host_text("/etc/hosts")?, root)?;
    if own.ipc {
        mounts::shared_memory(&shared_memory(shared, &entry.id), root)?;
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

/// A file that belongs to the pod's root.
fn write(dir: &Path, name: &str, text: &str, (user, group): (u32, u32)) -> Result<()> {
    let path = dir.join(name);
    let written = fs::write(&path, text).and_then(|()| chown(&path, Some(user), Some(group)));
    Ok(written.with_context(|| format!("writing {}", path.display()))?)
}
