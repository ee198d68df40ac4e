//! A container's mounts: its volumes, and the pod's hosts file and termination message where it has none of its own.
//!
//! Must not know: how volumes are made.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use pintle_cri::v1::{ImageSpec, Mount, MountPropagation};

use super::{PodVolumes, Volumes, sub_path};
use crate::plan::expand::expand;

/// What a container's mounts need beside the volumes.
pub struct Around<'a> {
    pub environment: &'a [(String, String)],
    /// The text of the managed hosts file.
    pub hosts: &'a str,
    pub restart_count: i32,
    /// Whether the runtime can make a mount read-only with all that is mounted below it.
    pub recursive_read_only: bool,
    /// What the runtime has for the image volumes, by the volumes' names.
    pub images: &'a BTreeMap<String, ImageSpec>,
}

impl Volumes {
    /// The container's mounts.
    ///
    /// # Errors
    /// A text for a CreateContainerConfigError.
    pub fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        volumes: &PodVolumes,
        around: &Around<'_>,
    ) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            mounts.push(self.volume_mount(pod, container, volumes, around, (index, mount))?);
        }
        let taken = |mounts: &[Mount], path: &str| mounts.iter().any(|mount| mount.container_path == path);
        if !taken(&mounts, "/etc/hosts") {
            mounts.push(self.hosts(pod, around.hosts)?);
        }
        let message = container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into());
        if !message.is_empty() && !taken(&mounts, &message) {
            mounts.push(self.message(pod, container, message, around.restart_count)?);
        }
        Ok(mounts)
    }

    fn volume_mount(
        &self,
        pod: &Pod,
        container: &Container,
        volumes: &PodVolumes,
        around: &Around<'_>,
        (index, mount): (usize, &VolumeMount),
    ) -> Result<Mount, String> {
        let recursive_read_only = recursive_read_only(mount, around.recursive_read_only)?;
        let sub = sub_path_of(mount, around.environment)?;
        if let Some(image) = around.images.get(&mount.name) {
            return Ok(Mount { recursive_read_only, ..image_mount(mount, image.clone(), sub) });
        }
        let volume = volumes.paths.get(&mount.name);
        let mut host = volume.cloned().ok_or_else(|| {
            format!("cannot find volume \"{}\" to mount into container \"{}\"", mount.name, container.name)
        })?;
        // of volumes of the kubelet's own making; what is the host's keeps its labels
        let selinux_relabel = relabels() && host.starts_with(self.pod_dir(pod));
        if let Some(sub) = sub {
            let target = self
                .pod_dir(pod)
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&container.name)
                .join(index.to_string());
            host = sub_path::bind(&host, &sub, &target).map_err(|error| {
                format!(
                    "failed to create subPath directory for volumeMount \"{}\" of container \"{}\": {error:#}",
                    mount.name, container.name
                )
            })?;
        }
        Ok(Mount {
            container_path: absolute(&mount.mount_path),
            host_path: host.display().to_string(),
            readonly: mount.read_only.unwrap_or(false),
            recursive_read_only,
            propagation: propagation(mount).into(),
            selinux_relabel,
            ..Mount::default()
        })
    }

    fn hosts(&self, pod: &Pod, text: &str) -> Result<Mount, String> {
        let path = self.pod_dir(pod).join("etc-hosts");
        // rewritten in place: running containers of the pod have this inode mounted
        let current = fs::read_to_string(&path).ok();
        if current.as_deref() != Some(text) {
            write(&path, text.as_bytes(), 0o644)?;
        }
        Ok(bind("/etc/hosts", &path))
    }

    fn message(&self, pod: &Pod, container: &Container, inside: String, restart_count: i32) -> Result<Mount, String> {
        let dir = self.pod_dir(pod).join("containers").join(&container.name);
        // a file per instance: the last one's message stays readable
        let path = dir.join(format!("{restart_count:08x}"));
        write(&path, b"", 0o666)?;
        Ok(bind(&inside, &path))
    }
}

/// Source: resolveRecursiveReadOnly of pkg/kubelet/kubelet_pods.go.
fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Result<bool, String> {
    let asked = |problem: String| {
        Err(format!("volume {:?} requested recursive read-only mode, but it is {problem}", mount.name))
    };
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if mode == "Disabled" {
        return Ok(false);
    }
    if mount.read_only != Some(true) {
        return asked("not read-only".into());
    }
    if let Some(propagation) = mount.mount_propagation.as_deref().filter(|propagation| *propagation != "None") {
        return asked(format!("not compatible with propagation {propagation:?}"));
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => asked("not supported by the runtime".into()),
        other => Err(format!("unknown recursive read-only mode {other:?}")),
    }
}

/// A mount of an image, or of a path in it: always read-only.
fn image_mount(mount: &VolumeMount, image: ImageSpec, sub_path: Option<String>) -> Mount {
    Mount {
        container_path: absolute(&mount.mount_path),
        image: Some(image),
        image_sub_path: sub_path.unwrap_or_default(),
        readonly: true,
        propagation: propagation(mount).into(),
        ..Mount::default()
    }
}

fn propagation(mount: &VolumeMount) -> MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    }
}

fn bind(inside: &str, host: &Path) -> Mount {
    Mount {
        container_path: inside.into(),
        host_path: host.display().to_string(),
        selinux_relabel: relabels(),
        ..Mount::default()
    }
}

/// Whether files have labels here that containers are kept apart by.
fn relabels() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn write(path: &Path, data: &[u8], mode: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("writing {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, data).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.into() } else { format!("/{path}") }
}

fn sub_path_of(mount: &VolumeMount, environment: &[(String, String)]) -> Result<Option<String>, String> {
    let lookup = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let sub = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
        (Some(sub), _) if !sub.is_empty() => sub.to_string(),
        (_, Some(expression)) if !expression.is_empty() => expand(expression, &lookup),
        _ => return Ok(None),
    };
    if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
        return Err(format!("error SubPath `{sub}` must not be an absolute path or contain '..'"));
    }
    Ok(Some(sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(mode: &str, read_only: bool, propagation: Option<&str>, supported: bool) -> Result<bool, String> {
        let mount = VolumeMount {
            name: "v".into(),
            read_only: Some(read_only),
            recursive_read_only: Some(mode.into()),
            mount_propagation: propagation.map(str::to_owned),
            ..VolumeMount::default()
        };
        recursive_read_only(&mount, supported)
    }

    #[test]
    fn a_mount_is_recursively_read_only_where_it_must_be_or_can_be() {
        assert_eq!(mode("Enabled", true, None, true), Ok(true));
        assert_eq!(mode("IfPossible", true, Some("None"), true), Ok(true));
        assert_eq!(mode("IfPossible", true, None, false), Ok(false));
        assert_eq!(mode("Disabled", false, None, true), Ok(false));
    }

    #[test]
    fn a_mount_that_cannot_be_says_why() {
        let asked = |problem| Err(format!("volume \"v\" requested recursive read-only mode, but it is {problem}"));
        assert_eq!(mode("Enabled", true, None, false), asked("not supported by the runtime"));
        assert_eq!(mode("Enabled", false, None, true), asked("not read-only"));
        let shared = mode("IfPossible", true, Some("HostToContainer"), true);
        assert_eq!(shared, asked("not compatible with propagation \"HostToContainer\""));
    }

    #[test]
    fn an_image_is_mounted_read_only_and_has_no_place_on_the_node() {
        let image = ImageSpec { image: "sha256:1".into(), ..ImageSpec::default() };
        let asked = VolumeMount { name: "v".into(), mount_path: "data".into(), ..VolumeMount::default() };
        let mount = image_mount(&asked, image.clone(), Some("www".into()));
        let expected = Mount {
            container_path: "/data".into(),
            image: Some(image),
            image_sub_path: "www".into(),
            readonly: true,
            ..Mount::default()
        };
        assert_eq!(mount, expected);
    }
}
