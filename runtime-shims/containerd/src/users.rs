//! User namespaces of pods. runc 1.1 and containerd 1.6 join one, and map no owners of files: so layers and volumes are
//! shown to them at places of our own where the owners are mapped, for the moment in which they mount them.
//!
//! Must not know: how a sandbox or container is made otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use containerd_client::types::Mount as LayerMount;
use oci_spec::runtime::LinuxIdMapping;
use pintle_bundle::{UserMappings, sandbox_namespaces};
use pintle_cri::v1::{ContainerConfig, IdMapping, Mount, NamespaceOption, PodSandboxConfig};
use pintle_launch::Mapped;
use tokio::process::Command;
use tonic::Status;

use crate::Inner;
use crate::client::internal;
use crate::record::{ContainerRecord, SandboxRecord};
use crate::sandbox::invalid;

/// A command that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(60);
/// Whom a map without a root makes of it.
const NOBODY: u32 = 65_534;

/// A pod's users on the host.
pub struct Users {
    pub mappings: UserMappings,
    /// Where their namespace is kept.
    pub namespace: PathBuf,
}

impl Users {
    /// The user and group on the host that are root in the pod.
    fn root(&self) -> (u32, u32) {
        let of = |mappings: &[LinuxIdMapping]| {
            mappings.iter().find(|it| it.container_id() == 0).map_or(NOBODY, LinuxIdMapping::host_id)
        };
        (of(&self.mappings.uids), of(&self.mappings.gids))
    }

    /// What is root's in the container, and was made for it on the host.
    pub fn own(&self, path: &Path) -> Result<(), Status> {
        let (user, group) = self.root();
        std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(internal)
    }
}

impl Inner {
    /// The folder of the namespaces that belong to a pod's user namespace, and it.
    pub fn namespaces_of(&self, sandbox: &str) -> PathBuf {
        self.config.sandbox_state(sandbox).join("ns")
    }

    /// `None` for a pod of the host's users.
    pub fn users(&self, sandbox: &SandboxRecord) -> Result<Option<Users>, Status> {
        let namespace = self.namespaces_of(&sandbox.id).join("user");
        let mappings = sandbox_namespaces(&sandbox.config).map_err(invalid)?.user;
        Ok(mappings.map(|mappings| Users { mappings, namespace }))
    }

    /// Refuses what of a pod's users this runtime cannot do.
    pub fn check_users(&self, config: &PodSandboxConfig) -> Result<(), Status> {
        let own = sandbox_namespaces(config).map_err(invalid)?;
        match own.user {
            Some(_) if !self.user_namespaces => {
                Err(Status::invalid_argument("user namespaces are not supported by this runtime"))
            }
            Some(_) if !own.net => {
                Err(Status::invalid_argument("a pod with a user namespace needs a network namespace, too"))
            }
            _ => Ok(()),
        }
    }

    /// Makes a user namespace and a network that belongs to it, which only a process of one thread can; the network's path.
    pub async fn make_user_namespace(&self, sandbox: &str, users: &UserMappings) -> anyhow::Result<PathBuf> {
        let dir = self.namespaces_of(sandbox);
        let [program, arguments @ ..] = self.config.namespaces.as_slice() else {
            anyhow::bail!("no program that makes user namespaces is named")
        };
        let mut command = Command::new(program);
        command.args(arguments).arg("--root").arg(self.config.state.join("launch")).args([
            "namespaces",
            "--net",
            "--pin",
        ]);
        command.arg(&dir).args(maps("--user-map", &users.uids)).args(maps("--group-map", &users.gids));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let done = tokio::time::timeout(LIMIT, command.output()).await;
        let done = done.with_context(|| format!("making namespaces did not end within {LIMIT:?}"))?;
        let done = done.context("making namespaces")?;
        anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(dir.join("net"))
    }

    /// Gives a pod's root the files of the pod.
    pub fn own_files(&self, id: &str, config: &PodSandboxConfig, users: &Users) -> Result<(), Status> {
        let files = self.config.sandbox_files(id, config);
        let files = [files.hostname, files.hosts, files.resolv_conf];
        files.iter().flatten().try_for_each(|file| users.own(file))
    }

    fn mapped_of(&self, id: &str) -> PathBuf {
        self.config.state.join("mapped").join(id)
    }

    /// What a killed run left of layers and volumes that were being mounted.
    pub fn clear_mapped(&self) {
        for dir in std::fs::read_dir(self.config.state.join("mapped")).into_iter().flatten().flatten() {
            if let Err(error) = Mapped::clear(&dir.path()) {
                tracing::warn!(path = %dir.path().display(), "what was mapped stays mounted: {error}");
            }
        }
    }

    /// Shows a container's volumes that have maps, then its layers, as its users see them; as long as the guard is there.
    pub fn map(
        &self,
        id: &str,
        users: Option<&Users>,
        volumes: &[PathBuf],
        layers: &mut [LayerMount],
    ) -> Result<Option<Mapped>, Status> {
        let Some(users) = users else { return Ok(None) };
        let mut mapped = Mapped::by(&users.namespace, &self.mapped_of(id)).map_err(internal)?;
        for volume in volumes {
            mapped.add(volume, false).map_err(internal)?;
        }
        for layer in layers {
            map_layers(layer, users, &mut mapped)?;
        }
        Ok(Some(mapped))
    }

    /// The specification's view of a request: each volume with maps is where [`Inner::map`] will show it, the first of
    /// them at `0`; their real places.
    pub fn shown(
        &self,
        id: &str,
        users: Option<&Users>,
        config: &ContainerConfig,
    ) -> Result<(ContainerConfig, Vec<(usize, PathBuf)>), Status> {
        let mut shown = config.clone();
        let mut places = Vec::new();
        let pod = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let pod = pod.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
        for (index, mount) in shown.mounts.iter_mut().enumerate().filter(|(_, mount)| has_maps(mount)) {
            let refuse = |reason: &str| Status::invalid_argument(format!("mounts[{index}].uidMappings: {reason}"));
            if users.is_none() || !as_pod(mount, &pod) {
                return Err(refuse("other maps than those of the pod are not supported by this runtime"));
            }
            (mount.uid_mappings, mount.gid_mappings) = (Vec::new(), Vec::new());
            places.push((index, self.mapped_of(id).join(places.len().to_string())));
        }
        Ok((shown, places))
    }
}

/// The host's places of a container's volumes with maps, in their order.
pub fn volumes_with_maps(record: &ContainerRecord) -> Result<Vec<PathBuf>, Status> {
    let with_maps = record.config.mounts.iter().filter(|mount| has_maps(mount));
    with_maps.map(|mount| std::fs::canonicalize(&mount.host_path).map_err(internal)).collect()
}

fn has_maps(mount: &Mount) -> bool {
    mount.image.is_none() && !(mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty())
}

fn as_pod(mount: &Mount, pod: &NamespaceOption) -> bool {
    let same = |a: &[IdMapping], b: &[IdMapping]| a == b;
    let users = pod.userns_options.clone().unwrap_or_default();
    same(&mount.uid_mappings, &users.uids) && same(&mount.gid_mappings, &users.gids)
}

/// An overlay's lower layers are mapped; what it writes belongs to the pod's root.
fn map_layers(layer: &mut LayerMount, users: &Users, mapped: &mut Mapped) -> Result<(), Status> {
    if layer.r#type == "bind" {
        return users.own(Path::new(&layer.source));
    }
    for option in &mut layer.options {
        if let Some(upper) = option.strip_prefix("upperdir=") {
            users.own(Path::new(upper))?;
        } else if let Some(lower) = option.strip_prefix("lowerdir=") {
            let lower = lower.split(':').map(|dir| mapped.add(Path::new(dir), true));
            let lower: Vec<PathBuf> = lower.collect::<anyhow::Result<_>>().map_err(internal)?;
            let lower: Vec<String> = lower.iter().map(|dir| dir.display().to_string()).collect();
            *option = format!("lowerdir={}", lower.join(":"));
        }
    }
    Ok(())
}

fn maps(flag: &str, mappings: &[LinuxIdMapping]) -> Vec<OsString> {
    let one = |it: &LinuxIdMapping| format!("{flag}={}:{}:{}", it.container_id(), it.host_id(), it.size()).into();
    mappings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volumes_maps_are_the_pods_or_refused() {
        let map = |host_id| vec![IdMapping { host_id, container_id: 0, length: 9 }];
        let users = pintle_cri::v1::UserNamespace { uids: map(7), gids: map(7), ..Default::default() };
        let pod = NamespaceOption { userns_options: Some(users), ..Default::default() };
        let mount = |host_id| Mount { uid_mappings: map(host_id), gid_mappings: map(host_id), ..Default::default() };
        assert!(has_maps(&mount(7)) && as_pod(&mount(7), &pod) && !as_pod(&mount(8), &pod));
        assert!(!has_maps(&Mount::default()));
    }
}
