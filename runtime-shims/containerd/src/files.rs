//! The files and folders of sandboxes and containers on the host.
//!
//! Must not know: containerd.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use pintle_bundle::{Host, SandboxFiles, hostname, resolv_conf};
use pintle_cri::v1::{NamespaceMode, PodSandboxConfig};

use crate::{Config, netns};

/// Size of a pod's `/dev/shm` (upstream's `defaultShmSize`).
const SHM_OPTIONS: &str = "mode=1777,size=67108864";

impl Config {
    /// What of a sandbox survives the machine's restart.
    pub(crate) fn sandbox_root(&self, id: &str) -> PathBuf {
        self.root.join("sandboxes").join(id)
    }

    /// What of a sandbox does not.
    pub(crate) fn sandbox_state(&self, id: &str) -> PathBuf {
        self.state.join("sandboxes").join(id)
    }

    pub(crate) fn container_root(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    pub(crate) fn container_state(&self, id: &str) -> PathBuf {
        self.state.join("containers").join(id)
    }

    /// Where the files of a sandbox are, made or not.
    pub(crate) fn sandbox_files(&self, id: &str, config: &PodSandboxConfig) -> SandboxFiles {
        let root = self.sandbox_root(id);
        let shm = if host_ipc(config) { "/dev/shm".into() } else { self.sandbox_state(id).join("shm") };
        SandboxFiles {
            hostname: Some(root.join("hostname")),
            hosts: Some(root.join("hosts")),
            resolv_conf: Some(root.join("resolv.conf")),
            shm: Some(shm),
        }
    }

    /// Makes the files that a pod's containers share.
    pub(crate) fn make_sandbox_files(&self, id: &str, config: &PodSandboxConfig, host: &Host) -> anyhow::Result<()> {
        let root = self.sandbox_root(id);
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        write(&root.join("hostname"), &format!("{}\n", hostname(config, host)))?;
        write(&root.join("hosts"), &fs::read_to_string("/etc/hosts").unwrap_or_default())?;
        let dns = match resolv_conf(&config.dns_config.clone().unwrap_or_default())? {
            nothing if nothing.is_empty() => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            dns => dns,
        };
        write(&root.join("resolv.conf"), &dns)?;
        if host_ipc(config) {
            return Ok(());
        }
        let shm = self.sandbox_state(id).join("shm");
        fs::create_dir_all(&shm).with_context(|| format!("making {}", shm.display()))?;
        let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(SHM_OPTIONS)).context("mounting the pod's /dev/shm")
    }

    /// Unmounts what a sandbox has mounted; its files stay.
    pub(crate) fn unmount_sandbox(&self, id: &str) -> anyhow::Result<()> {
        netns::unmount(&self.sandbox_state(id).join("shm"))
    }

    pub(crate) fn remove_sandbox_files(&self, id: &str) -> anyhow::Result<()> {
        self.unmount_sandbox(id)?;
        remove(&self.sandbox_state(id))?;
        remove(&self.sandbox_root(id))
    }

    pub(crate) fn remove_container_files(&self, id: &str) -> anyhow::Result<()> {
        remove(&self.container_state(id))?;
        remove(&self.container_root(id))
    }
}

pub(crate) fn host_network(config: &PodSandboxConfig) -> bool {
    options(config).is_some_and(|options| options.network() == NamespaceMode::Node)
}

fn host_ipc(config: &PodSandboxConfig) -> bool {
    options(config).is_some_and(|options| options.ipc() == NamespaceMode::Node)
}

fn options(config: &PodSandboxConfig) -> Option<&pintle_cri::v1::NamespaceOption> {
    config.linux.as_ref()?.security_context.as_ref()?.namespace_options.as_ref()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match pintle_daemon::tree::remove(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
