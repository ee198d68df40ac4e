//! Layers as containerd's snapshots: an image's unpacked once, a container's own on top.
//!
//! Must not know: registries, CRI.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::types::{Descriptor, Mount};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open};
use nix::sys::stat::Mode;
use pintle_daemon::inside;
use tonic::{Code, Status};

use crate::Inner;
use crate::client::{During, Lease, lasting, request};
use crate::images::{Facts, Link};

/// A user file beyond this is hostile.
const LARGEST_FILE: u64 = 1 << 20;

impl Inner {
    /// Unpacks the layers of an image that are not unpacked yet, lowest first.
    pub async fn unpack(&self, facts: &Facts) -> Result<(), Status> {
        let lease = self.client.lease().await.during("containerd gave no lease")?;
        let layers = facts.config.rootfs().diff_ids().len();
        if layers != facts.layers.len() {
            let reason = format!("image {} has {} layers and names {layers}", facts.id, facts.layers.len());
            return Err(Status::failed_precondition(reason));
        }
        for (index, layer) in facts.layers.iter().enumerate() {
            let chain = facts.chain_id(index + 1);
            if !self.has_snapshot(&chain).await? {
                let parent = facts.chain_id(index);
                let parent = if index == 0 { String::new() } else { parent };
                self.unpack_layer(&lease, layer, &facts.config.rootfs().diff_ids()[index], parent, &chain).await?;
            }
        }
        self.keep_snapshot(&lease, &facts.id, &facts.chain_id(layers)).await
    }

    async fn has_snapshot(&self, key: &str) -> Result<bool, Status> {
        let stat = StatSnapshotRequest { snapshotter: self.config.snapshotter.clone(), key: key.to_owned() };
        Ok(self.client.snapshots().stat(request(stat)).await.or_gone()?.is_some())
    }

    async fn unpack_layer(
        &self,
        lease: &Lease,
        layer: &Link,
        diff_id: &str,
        parent: String,
        chain: &str,
    ) -> Result<(), Status> {
        let key = format!("pintle-extract-{:016x} {chain}", rand::random::<u64>());
        let mounts = self.prepare(lease, &key, parent).await?;
        let applied = self.apply(layer, diff_id, mounts).await;
        if let Err(status) = applied {
            self.remove_snapshot(&key).await?;
            return Err(status);
        }
        let commit = CommitSnapshotRequest {
            snapshotter: self.config.snapshotter.clone(),
            name: chain.to_owned(),
            key: key.clone(),
            ..CommitSnapshotRequest::default()
        };
        match self.client.snapshots().commit(lease.request(commit)).await {
            // Another pull was faster.
            Err(status) if status.code() == Code::AlreadyExists => self.remove_snapshot(&key).await,
            done => done.map(drop).during(format!("keeping layer {}", layer.digest)),
        }
    }

    async fn apply(&self, layer: &Link, diff_id: &str, mounts: Vec<Mount>) -> Result<(), Status> {
        let diff = Some(Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
            ..Descriptor::default()
        });
        let apply = ApplyRequest { diff, mounts, ..ApplyRequest::default() };
        let applied =
            self.client.diff().apply(lasting(apply)).await.during(format!("unpacking layer {}", layer.digest))?;
        let digest = applied.into_inner().applied.unwrap_or_default().digest;
        if digest == diff_id {
            return Ok(());
        }
        let reason = format!("layer {} unpacks to {digest}, the image says {diff_id}", layer.digest);
        Err(Status::data_loss(reason))
    }

    /// A layer to write, on top of `parent`: how to mount it.
    pub async fn prepare(&self, lease: &Lease, key: &str, parent: String) -> Result<Vec<Mount>, Status> {
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.config.snapshotter.clone(),
            key: key.to_owned(),
            parent,
            ..PrepareSnapshotRequest::default()
        };
        let prepared = self.client.snapshots().prepare(lease.request(prepare)).await.during("preparing a layer")?;
        Ok(prepared.into_inner().mounts)
    }

    pub async fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        use containerd_client::services::v1::snapshots::MountsRequest;
        let mounts = MountsRequest { snapshotter: self.config.snapshotter.clone(), key: key.to_owned() };
        Ok(self.client.snapshots().mounts(request(mounts)).await.during("mounting a layer")?.into_inner().mounts)
    }

    pub async fn remove_snapshot(&self, key: &str) -> Result<(), Status> {
        let remove = RemoveSnapshotRequest { snapshotter: self.config.snapshotter.clone(), key: key.to_owned() };
        self.client.snapshots().remove(request(remove)).await.or_gone().during("removing a layer")?;
        Ok(())
    }
}

impl Inner {
    /// Bytes and inodes of all layers of ours and others in the snapshotter.
    pub async fn layers_usage(&self) -> Result<(u64, u64), Status> {
        use containerd_client::services::v1::snapshots::{ListSnapshotsRequest, UsageRequest};
        let snapshotter = self.config.snapshotter.clone();
        let list = ListSnapshotsRequest { snapshotter: snapshotter.clone(), ..ListSnapshotsRequest::default() };
        let mut pages = self.client.snapshots().list(request(list)).await.during("listing layers")?.into_inner();
        let (mut bytes, mut inodes) = (0u64, 0u64);
        while let Some(page) = pages.message().await.during("listing layers")? {
            for info in page.info {
                let usage = UsageRequest { snapshotter: snapshotter.clone(), key: info.name };
                let Some(usage) = self.client.snapshots().usage(request(usage)).await.or_gone()? else { continue };
                let usage = usage.into_inner();
                bytes = bytes.saturating_add(usage.size.try_into().unwrap_or_default());
                inodes = inodes.saturating_add(usage.inodes.try_into().unwrap_or_default());
            }
        }
        Ok((bytes, inodes))
    }
}

/// A small text file of a root file system that is not mounted yet, searched in its layers from the top; empty when it
/// has none. Links are followed inside their layer and never out of it.
pub fn text_of(mounts: &[Mount], path: &str) -> String {
    for folder in folders(mounts) {
        match look(&folder, path) {
            Looked::Found(text) => return text,
            Looked::Removed => return String::new(),
            Looked::NotHere => {}
        }
    }
    String::new()
}

enum Looked {
    Found(String),
    /// A whiteout: the file of the layers below is gone.
    Removed,
    NotHere,
}

/// The layers' folders, topmost first.
fn folders(mounts: &[Mount]) -> Vec<String> {
    let Some(mount) = mounts.last() else { return Vec::new() };
    if mount.r#type == "bind" {
        return vec![mount.source.clone()];
    }
    let option = |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name).map(str::to_owned));
    let lower = option("lowerdir=").unwrap_or_default();
    option("upperdir=").into_iter().chain(lower.split(':').map(str::to_owned)).filter(|dir| !dir.is_empty()).collect()
}

fn look(folder: &str, path: &str) -> Looked {
    let Ok(file) = open_inside(folder, path).map(File::from) else { return Looked::NotHere };
    let Ok(found) = file.metadata() else { return Looked::NotHere };
    if found.file_type().is_char_device() && found.rdev() == 0 {
        return Looked::Removed;
    }
    if !found.is_file() || found.len() > LARGEST_FILE {
        return Looked::NotHere;
    }
    let mut bytes = Vec::new();
    let Ok(readable) = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))) else {
        return Looked::NotHere;
    };
    match readable.take(LARGEST_FILE).read_to_end(&mut bytes) {
        Ok(_) => Looked::Found(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => Looked::NotHere,
    }
}

/// Opened by place only, so that a device or pipe in an image is never opened itself.
pub fn open_inside(folder: &str, path: &str) -> nix::Result<OwnedFd> {
    let root = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    inside::open(root, path, how)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_looked_for_from_the_top_and_never_outside() {
        let dir = tempfile::tempdir().unwrap();
        for layer in ["top", "low"] {
            fs::create_dir_all(dir.path().join(layer).join("etc")).unwrap();
        }
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(dir.path().join("low/etc/passwd"), "low").unwrap();
        symlink("../../secret", dir.path().join("top/etc/group")).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let options = vec![format!("lowerdir={}:{}", at("top"), at("low"))];
        let mounts = [Mount { r#type: "overlay".into(), options, ..Mount::default() }];
        assert_eq!(text_of(&mounts, "etc/passwd"), "low");
        assert_eq!(text_of(&mounts, "etc/group"), "");
        fs::write(dir.path().join("top/etc/passwd"), "top").unwrap();
        assert_eq!(text_of(&mounts, "etc/passwd"), "top");
    }
}
