//! Volumes: files, folders, propagation, read-only trees, ID maps, images.
//!
//! Must not know: devices, users.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pintle_cri::v1;
use pintle_cri::v1::MountPropagation as Propagation;

use super::demand;
use super::labels::has_selinux;
use crate::bench::{Bench, Pod};
use crate::demand::{Demand, equal, image};
use crate::images::LAYERED;

pub const DEMANDS: &[Demand] = &[
    demand!(
        "mount/folder",
        "a folder of the host is mounted; what a container writes is there on the host",
        "runtime.v1 ContainerConfig.mounts",
        folder
    ),
    demand!("mount/read-only", "a read-only mount cannot be written", "runtime.v1 Mount.readonly", read_only),
    demand!(
        "mount/file",
        "a single file is mounted over one of the image's, and written",
        "runtime.v1 Mount.container_path; kubelet's termination-log, /etc/hosts",
        file
    ),
    demand!(
        "mount/link",
        "where the host's path is a link, what it leads to is mounted",
        "runtime.v1 Mount.host_path: symlinks are resolved on the host",
        link
    ),
    demand!(
        "mount/missing-source",
        "a folder that is not there on the host is made",
        "cri-api: containers whose host path does not exist; kubelet's hostPath volumes",
        missing_source
    ),
    demand!(
        "mount/nested",
        "a mount within another is seen, in whichever order they are asked for",
        "runtime.v1 ContainerConfig.mounts; Pod's volumeMounts",
        nested
    ),
    demand!(
        "mount/link-in-image",
        "a container's path that leads through a link stays in the container's root",
        "runtime.v1 Mount.container_path",
        link_in_image
    ),
    demand!(
        "mount/relabel",
        "a mount that is to be relabelled works where the host has no SELinux",
        "runtime.v1 Mount.selinux_relabel",
        relabel
    ),
    demand!(
        "mount/private",
        "what is mounted on the host later stays out of a private mount",
        "runtime.v1 Mount.propagation PROPAGATION_PRIVATE",
        private
    ),
    demand!(
        "mount/host-to-container",
        "what is mounted on the host later comes into the container",
        "runtime.v1 Mount.propagation PROPAGATION_HOST_TO_CONTAINER",
        host_to_container
    ),
    demand!(
        "mount/stays-in-container",
        "what a container mounts in such a mount does not come to the host",
        "runtime.v1 Mount.propagation PROPAGATION_HOST_TO_CONTAINER",
        stays_in_container
    ),
    demand!(
        "mount/bidirectional",
        "what a privileged container mounts comes to the host",
        "runtime.v1 Mount.propagation PROPAGATION_BIDIRECTIONAL; CSI drivers",
        bidirectional
    ),
    demand!(
        "mount/recursive-read-only",
        "mounts below a recursively read-only one cannot be written either",
        "runtime.v1 Mount.recursive_read_only; KEP-3857",
        recursive_read_only
    ),
    demand!(
        "mount/recursive-needs-read-only",
        "recursively read-only without read-only is refused",
        "runtime.v1 Mount.recursive_read_only: readonly must be set",
        recursive_needs_read_only
    ),
    demand!(
        "mount/recursive-needs-private",
        "recursively read-only with propagation is refused",
        "runtime.v1 Mount.recursive_read_only: propagation must be private",
        recursive_needs_private
    ),
    demand!(
        "mount/image",
        "an image is mounted as a folder that cannot be written",
        "runtime.v1 Mount.image; KEP-4639",
        of_image
    ),
    demand!(
        "mount/image-sub-path",
        "a folder of an image is mounted alone",
        "runtime.v1 Mount.image_sub_path; KEP-4639",
        image_sub_path
    ),
    demand!(
        "mount/image-missing-sub-path",
        "a folder that the image does not have is refused",
        "runtime.v1 Mount.image_sub_path; kubelet's ErrImageVolume",
        image_missing_sub_path
    ),
    demand!(
        "mount/told",
        "a container's status holds its mounts",
        "runtime.v1 ContainerStatus.mounts; kubelet's resource metrics of volumes",
        told
    ),
];

const AT: &str = "/mnt/it";

/// A folder of this test's with a file in it.
fn volume(bench: &Bench, name: &str) -> anyhow::Result<PathBuf> {
    let dir = bench.dir()?.join(name);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("in"), "of the host")?;
    Ok(dir)
}

/// As a kubelet asks for a volume of its own: to be relabelled where the host has SELinux.
pub fn of(host_path: &Path, container_path: &str) -> v1::Mount {
    let host_path = host_path.display().to_string();
    let selinux_relabel = has_selinux();
    v1::Mount { container_path: container_path.into(), host_path, selinux_relabel, ..Default::default() }
}

async fn with(bench: &Bench, mounts: Vec<v1::Mount>) -> anyhow::Result<String> {
    let pod = bench.pod().await?;
    bench.ready(&pod, v1::ContainerConfig { mounts, ..bench.container(&pod, &["wait"]) }).await
}

/// Creating a container with this mount, or starting it, must fail.
async fn refused(bench: &Bench, mount: v1::Mount) -> anyhow::Result<()> {
    let pod = bench.pod().await?;
    let config = v1::ContainerConfig { mounts: vec![mount], ..bench.container(&pod, &["wait"]) };
    ensure!(bench.run(&pod, config).await.is_err(), "it was started");
    Ok(())
}

async fn folder(bench: &Bench) -> anyhow::Result<()> {
    let dir = volume(bench, "volume")?;
    let id = with(bench, vec![of(&dir, AT)]).await?;
    equal("what it reads", bench.said(&id, &["cat", "/mnt/it/in"]).await?, "of the host")?;
    bench.said(&id, &["write", "/mnt/it/out", "of the container"]).await?;
    equal("what it wrote", std::fs::read_to_string(dir.join("out"))?.as_str(), "of the container")
}

async fn is_read_only(bench: &Bench, id: &str, path: &str) -> anyhow::Result<()> {
    let complaint = bench.complained(id, &["write", path, "x"]).await?;
    ensure!(complaint.contains("Read-only file system"), "{path}: {complaint}");
    Ok(())
}

async fn read_only(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![v1::Mount { readonly: true, ..of(&volume(bench, "volume")?, AT) }]).await?;
    equal("what it reads", bench.said(&id, &["cat", "/mnt/it/in"]).await?, "of the host")?;
    is_read_only(bench, &id, "/mnt/it/out").await
}

async fn file(bench: &Bench) -> anyhow::Result<()> {
    let host = volume(bench, "volume")?.join("in");
    let id = with(bench, vec![of(&host, "/etc/group"), of(&host, "/dev/termination-log")]).await?;
    equal("the file", bench.said(&id, &["cat", "/etc/group"]).await?, "of the host")?;
    bench.said(&id, &["write", "/dev/termination-log", "the end"]).await?;
    equal("what it wrote", std::fs::read_to_string(host)?.as_str(), "the end")
}

async fn link(bench: &Bench) -> anyhow::Result<()> {
    let dir = volume(bench, "volume")?;
    let link = dir.with_file_name("link");
    std::os::unix::fs::symlink(&dir, &link)?;
    let id = with(bench, vec![of(&link, AT)]).await?;
    equal("what it reads", bench.said(&id, &["cat", "/mnt/it/in"]).await?, "of the host")
}

async fn missing_source(bench: &Bench) -> anyhow::Result<()> {
    let dir = bench.dir()?.join("not/there");
    let id = with(bench, vec![of(&dir, AT)]).await?;
    bench.said(&id, &["write", "/mnt/it/out", "of the container"]).await?;
    equal("what it wrote", std::fs::read_to_string(dir.join("out"))?.as_str(), "of the container")
}

async fn nested(bench: &Bench) -> anyhow::Result<()> {
    let (outer, inner) = (volume(bench, "outer")?, volume(bench, "inner")?);
    std::fs::write(inner.join("in"), "of the inner")?;
    let mounts = [of(&inner, "/mnt/it/below"), of(&outer, AT)];
    for mounts in [mounts.clone(), [mounts[1].clone(), mounts[0].clone()]] {
        let id = with(bench, mounts.into()).await?;
        equal("the outer", bench.said(&id, &["cat", "/mnt/it/in"]).await?, "of the host")?;
        equal("the inner", bench.said(&id, &["cat", "/mnt/it/below/in"]).await?, "of the inner")?;
    }
    Ok(())
}

async fn link_in_image(bench: &Bench) -> anyhow::Result<()> {
    let outer = volume(bench, "outer")?;
    // a link as images hold them: absolute, meant for the container's root
    std::os::unix::fs::symlink("/tmp", outer.join("link"))?;
    let inner = volume(bench, "inner")?;
    let below = format!("below-{}", bench.mark);
    let id = with(bench, vec![of(&outer, AT), of(&inner, &format!("/mnt/it/link/{below}"))]).await?;
    equal("what it reads", bench.said(&id, &["cat", &format!("/tmp/{below}/in")]).await?, "of the host")?;
    ensure!(!Path::new("/tmp").join(below).exists(), "it was mounted in the host's /tmp");
    Ok(())
}

async fn relabel(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![v1::Mount { selinux_relabel: true, ..of(&volume(bench, "volume")?, AT) }]).await?;
    equal("what it reads", bench.said(&id, &["cat", "/mnt/it/in"]).await?, "of the host")
}

/// A folder whose mounts propagate; let go of with everything below it.
struct Propagating(PathBuf);

impl Propagating {
    fn new(bench: &Bench) -> anyhow::Result<Self> {
        let dir = volume(bench, "volume")?;
        std::fs::create_dir_all(dir.join("inner"))?;
        mount(Some(&dir), &dir, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("binding a folder to itself")?;
        let made = Self(dir);
        mount(None::<&str>, &made.0, None::<&str>, MsFlags::MS_SHARED, None::<&str>).context("sharing a mount")?;
        Ok(made)
    }

    /// A file system in the folder inside, with a file.
    fn mount_inside(&self) -> anyhow::Result<()> {
        mount(Some("tmpfs"), &self.0.join("inner"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .context("mounting on the host")?;
        std::fs::write(self.0.join("inner/late"), "of the host").context("writing on the host")
    }
}

impl Drop for Propagating {
    fn drop(&mut self) {
        // the report names the test that left it
        for place in [self.0.join("inner"), self.0.clone()] {
            let _ = umount2(&place, MntFlags::MNT_DETACH);
        }
    }
}

/// A container, privileged, with a mount that propagates so.
async fn propagating(bench: &Bench, dir: &Propagating, propagation: Propagation) -> anyhow::Result<String> {
    let mut config = bench.pod_config();
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.privileged = true;
    }
    let pod = bench.run_pod(config).await?;
    let mut config = bench.secured(&pod, &["wait"], |it| it.privileged = true);
    config.mounts = vec![v1::Mount { propagation: propagation.into(), ..of(&dir.0, AT) }];
    bench.ready(&pod, config).await
}

async fn private(bench: &Bench) -> anyhow::Result<()> {
    let dir = Propagating::new(bench)?;
    let id = propagating(bench, &dir, Propagation::PropagationPrivate).await?;
    dir.mount_inside()?;
    equal("the folder inside", bench.said(&id, &["ls", "/mnt/it/inner"]).await?, "")
}

async fn host_to_container(bench: &Bench) -> anyhow::Result<()> {
    let dir = Propagating::new(bench)?;
    let id = propagating(bench, &dir, Propagation::PropagationHostToContainer).await?;
    dir.mount_inside()?;
    equal("the file inside", bench.said(&id, &["cat", "/mnt/it/inner/late"]).await?, "of the host")
}

async fn stays_in_container(bench: &Bench) -> anyhow::Result<()> {
    let dir = Propagating::new(bench)?;
    let id = propagating(bench, &dir, Propagation::PropagationHostToContainer).await?;
    bench.said(&id, &["mount-tmpfs", "/mnt/it/inner"]).await?;
    bench.said(&id, &["write", "/mnt/it/inner/late", "x"]).await?;
    ensure!(!dir.0.join("inner/late").exists(), "it came to the host");
    Ok(())
}

async fn bidirectional(bench: &Bench) -> anyhow::Result<()> {
    let dir = Propagating::new(bench)?;
    let id = propagating(bench, &dir, Propagation::PropagationBidirectional).await?;
    bench.said(&id, &["mount-tmpfs", "/mnt/it/inner"]).await?;
    bench.said(&id, &["write", "/mnt/it/inner/late", "of the container"]).await?;
    let came = std::fs::read_to_string(dir.0.join("inner/late")).context("it did not come to the host")?;
    equal("the file on the host", came.as_str(), "of the container")
}

fn recursive(bench: &Bench) -> anyhow::Result<()> {
    bench.needs_handler("recursive read-only mounts", |can| can.recursive_read_only_mounts)
}

async fn recursive_read_only(bench: &Bench) -> anyhow::Result<()> {
    recursive(bench)?;
    let dir = Propagating::new(bench)?;
    dir.mount_inside()?;
    let mount = v1::Mount { readonly: true, recursive_read_only: true, ..of(&dir.0, AT) };
    let id = with(bench, vec![mount]).await?;
    equal("the file inside", bench.said(&id, &["cat", "/mnt/it/inner/late"]).await?, "of the host")?;
    is_read_only(bench, &id, "/mnt/it/inner/late").await?;
    is_read_only(bench, &id, "/mnt/it/in").await
}

async fn recursive_needs_read_only(bench: &Bench) -> anyhow::Result<()> {
    recursive(bench)?;
    refused(bench, v1::Mount { recursive_read_only: true, ..of(&volume(bench, "volume")?, AT) }).await
}

async fn recursive_needs_private(bench: &Bench) -> anyhow::Result<()> {
    recursive(bench)?;
    let dir = Propagating::new(bench)?;
    let propagation = Propagation::PropagationHostToContainer.into();
    refused(bench, v1::Mount { readonly: true, recursive_read_only: true, propagation, ..of(&dir.0, AT) }).await
}

/// A mount of an image with layers, as a kubelet asks for it: pulled, named by what the pull answered.
async fn image_mount(bench: &Bench, sub_path: &str) -> anyhow::Result<v1::Mount> {
    bench.needs_modern("image volumes")?;
    let name = bench.shared.registry.tagged(LAYERED);
    let request = v1::ImageStatusRequest { image: Some(image(&name)), verbose: false };
    let found = bench.image_service().image_status(request).await?.into_inner().image.context("no image")?;
    Ok(v1::Mount {
        container_path: AT.into(),
        readonly: true,
        image: Some(v1::ImageSpec { image: found.id, user_specified_image: name, ..Default::default() }),
        image_sub_path: sub_path.into(),
        ..Default::default()
    })
}

async fn of_image(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![image_mount(bench, "").await?]).await?;
    equal("a file of the image's", bench.said(&id, &["cat", "/mnt/it/data/replaced"]).await?, "new")?;
    is_read_only(bench, &id, "/mnt/it/data/replaced").await
}

async fn image_sub_path(bench: &Bench) -> anyhow::Result<()> {
    let id = with(bench, vec![image_mount(bench, "data").await?]).await?;
    equal("the folder", bench.said(&id, &["ls", AT]).await?, "replaced")?;
    is_read_only(bench, &id, "/mnt/it/replaced").await
}

async fn image_missing_sub_path(bench: &Bench) -> anyhow::Result<()> {
    refused(bench, image_mount(bench, "not/there").await?).await?;
    // a way out of the image leads back into it, if it is taken at all
    let pod = bench.pod().await?;
    let mounts = vec![image_mount(bench, "../../..").await?];
    let config = v1::ContainerConfig { mounts, ..bench.container(&pod, &["ls", AT]) };
    let Ok(id) = bench.run(&pod, config).await else { return Ok(()) };
    bench.exited(&id).await?;
    let found = bench.log(&pod, "main.log");
    ensure!(found.lines().any(|name| name == "program"), "it is not the image: {found:?}");
    Ok(())
}

async fn told(bench: &Bench) -> anyhow::Result<()> {
    let dir = volume(bench, "volume")?;
    let id = with(bench, vec![v1::Mount { readonly: true, ..of(&dir, AT) }]).await?;
    let mounts = bench.status(&id).await?.mounts;
    let found = mounts.iter().find(|one| one.container_path == AT).context("not in the status")?;
    equal("host_path", found.host_path.as_str(), dir.display().to_string().as_str())?;
    equal("readonly", found.readonly, true)
}

/// A volume whose owners are mapped as the pod's users are.
pub async fn id_mapped(bench: &Bench, pod: &Pod, maps: &[v1::IdMapping]) -> anyhow::Result<String> {
    let dir = volume(bench, "mapped")?;
    let mount = v1::Mount { uid_mappings: maps.into(), gid_mappings: maps.into(), ..of(&dir, AT) };
    let config = v1::ContainerConfig { mounts: vec![mount], ..bench.container(pod, &["wait"]) };
    bench.ready(pod, config).await
}
