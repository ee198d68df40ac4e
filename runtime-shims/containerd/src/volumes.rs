//! Images that a container mounts as volumes: views of containerd's, mounted beside the container's files.
//!
//! Must not know: the specification of a container.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use containerd_client::services::v1::snapshots::ViewSnapshotRequest;
use containerd_client::types::Mount as LayerMount;
use nix::mount::{MsFlags, mount};
use pintle_cri::v1::ContainerConfig;
use tonic::Status;

use crate::client::{During, Lease, internal};
use crate::snapshots::open_inside;
use crate::{Inner, labels, netns};

const FOLDER: &str = "image-";

impl Inner {
    /// Mounts the images that a request names, in the order of its mounts, and writes down which they are.
    pub async fn mount_images(
        &self,
        lease: &Lease,
        id: &str,
        config: &mut ContainerConfig,
        label: Option<&str>,
    ) -> Result<Vec<Option<PathBuf>>, Status> {
        let mut roots = Vec::new();
        for (index, mount) in config.mounts.iter_mut().enumerate() {
            let Some(named) = &mut mount.image else {
                roots.push(None);
                continue;
            };
            let image = self.image(&named.image).await?;
            let image = image
                .ok_or_else(|| Status::not_found(format!("failed to resolve image {:?}: not found", named.image)))?;
            self.unpack(&image.facts).await?;
            let chain = image.facts.chain_id(image.facts.config.rootfs().diff_ids().len());
            let mut mounts = self.view(lease, format!("{id}-{FOLDER}{index}"), chain).await?;
            label.into_iter().try_for_each(|label| labels::of_layers(&mut mounts, label)).map_err(internal)?;
            let dir = self.config.container_root(id).join(format!("{FOLDER}{index}"));
            mount_layers(&mounts, &dir).map_err(internal).during("mounting an image")?;
            named.image_ref.clone_from(&image.facts.id);
            roots.push(Some(sub_path(&dir, &mount.image_sub_path)?));
        }
        Ok(roots)
    }

    async fn view(&self, lease: &Lease, key: String, parent: String) -> Result<Vec<LayerMount>, Status> {
        let snapshotter = self.config.snapshotter.clone();
        let view = ViewSnapshotRequest { snapshotter, key, parent, ..ViewSnapshotRequest::default() };
        Ok(self.client.snapshots().view(lease.request(view)).await.during("viewing an image")?.into_inner().mounts)
    }

    /// Takes back what [`Inner::mount_images`] mounted.
    pub async fn unmount_images(&self, id: &str) -> Result<(), Status> {
        let entries = fs::read_dir(self.config.container_root(id)).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER)) {
            netns::unmount(&entry.path()).map_err(internal)?;
            self.remove_snapshot(&format!("{id}-{}", entry.file_name().to_string_lossy())).await?;
        }
        Ok(())
    }
}

fn mount_layers(mounts: &[LayerMount], dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for one in mounts {
        let (flags, data) = options(&one.options);
        mount(Some(one.source.as_str()), dir, Some(one.r#type.as_str()), flags, Some(data.as_str()))
            .with_context(|| format!("mounting {} at {}", one.source, dir.display()))?;
        if flags.contains(MsFlags::MS_BIND) {
            let read_only = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, dir, None::<&str>, read_only, None::<&str>)
                .with_context(|| format!("making {} read-only", dir.display()))?;
        }
    }
    Ok(())
}

/// A mount's words as the system call takes them.
fn options(words: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for word in words {
        match word.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// A folder or file of an image; no link in it leads out.
fn sub_path(root: &Path, path: &str) -> Result<PathBuf, Status> {
    if path.is_empty() {
        return Ok(root.to_owned());
    }
    let refuse =
        |error: String| Status::invalid_argument(format!("ImageVolumeMountFailed: image_sub_path {path:?}: {error}"));
    let found = open_inside(&root.display().to_string(), path).map_err(|error| refuse(error.to_string()))?;
    fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(|error| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_flags_or_data() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (flags, data) = options(&words(&["ro", "rbind"]));
        assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(data, "");
        assert_eq!(
            options(&words(&["lowerdir=/a:/b", "index=off"])),
            (MsFlags::empty(), "lowerdir=/a:/b,index=off".into())
        );
    }

    #[test]
    fn a_path_in_an_image_stays_in_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../../../etc", dir.path().join("link")).unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(sub_path(&root, "link").unwrap(), root.join("etc"));
        assert_eq!(sub_path(&root, "").unwrap(), root);
        assert!(sub_path(&root, "none").unwrap_err().message().starts_with("ImageVolumeMountFailed"));
    }
}
