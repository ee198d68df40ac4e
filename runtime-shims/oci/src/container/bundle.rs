//! A container's OCI bundle: what the request names is looked up on the host, `pintle-bundle` decides, the result is
//! written down.
//!
//! Must not know: how a bundle is started.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oci_spec::runtime::Spec;
use pintle_bundle::{
    AppArmor, ContainerInput, DeviceNode, MountSource, NamespacePaths, SandboxNamespaces, UserDatabase, Volume,
    cdi_devices, container_spec, image_volumes, relabelled, sandbox_namespaces,
};
use pintle_cri::v1;
use pintle_cri::v1::NamespaceMode;
use serde::Serialize;

use crate::drivers::mounts::Snapshot;
use crate::drivers::{inside, sources};
use crate::error::{Error, Result};
use crate::plan::lifecycle;
use crate::runtime::Shared;
use crate::sandbox;
use crate::state::{Container, Entry, Sandbox};

/// More than any real list of users.
const MOST_USERS: u64 = 4 << 20;
const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// What was made besides the files.
#[derive(Debug)]
pub struct Made {
    pub user: v1::LinuxContainerUser,
}

/// Writes `config.json` in the container's folder, which is its bundle.
pub fn write(
    shared: &Shared,
    sandbox: &Entry<Sandbox>,
    entry: &Entry<Container>,
    image: &pintle_images::Image,
    snapshot: &Snapshot,
    image_mounts: &[Option<PathBuf>],
) -> Result<Made> {
    let (pod, record) = (sandbox.now(), entry.now());
    let own = sandbox_namespaces(&pod.config)?;
    let text = |path: &str| inside::read(&snapshot.root, path, MOST_USERS);
    let (passwd, group) = (text("/etc/passwd")?, text("/etc/group")?);
    let config = image.config.config().as_ref();
    let volumes = volumes(&record.config, config, entry.dir(), &snapshot.root)?;
    let spec = container_spec(&ContainerInput {
        id: &entry.id,
        config: &record.config,
        sandbox_id: &sandbox.id,
        sandbox: &pod.config,
        image: config,
        image_name: &record.config.image.clone().unwrap_or_default().image,
        rootfs: snapshot.root.clone(),
        users: UserDatabase { passwd: &passwd, group: &group },
        namespaces: &namespaces(shared, sandbox, &record, &own)?,
        files: &sandbox::files::of(shared, sandbox, &own),
        mounts: &mount_sources(&record.config, image_mounts)?,
        volumes: &volumes,
        devices: &devices(&record.config),
        cdi_specs: &cdi_specs(&record.config)?,
        seccomp_profile: seccomp_profile(&record.config)?.as_deref(),
        selinux_level: &pod.selinux_level,
        apparmor: apparmor()?.as_ref(),
        host: &shared.host,
    })?;
    write_json(&entry.dir().join("config.json"), &spec)?;
    Ok(Made { user: user(&spec) })
}

/// SELinux' label of the container's files; `None` where the host has no SELinux.
pub fn mount_label(shared: &Shared, sandbox: &Entry<Sandbox>, entry: &Entry<Container>) -> Result<Option<String>> {
    let pod = sandbox.now();
    Ok(pintle_bundle::mount_label(&entry.now().config, &pod.config, &pod.selinux_level, &shared.host)?)
}

/// Gives the pod's files, the image's volumes and the mounts that are to be relabelled the container's label.
pub fn label_files(shared: &Shared, sandbox: &Entry<Sandbox>, entry: &Entry<Container>, label: &str) -> Result<()> {
    let own = sandbox_namespaces(&sandbox.now().config)?;
    let mut paths = relabelled(&entry.now().config, &own, &sandbox::files::of(shared, sandbox, &own));
    paths.push(entry.dir().join("volumes"));
    paths.iter().try_for_each(|path| pintle_launch::selinux::relabel(path, label))?;
    Ok(())
}

/// The bundle's specification as it was written.
pub fn read(entry: &Entry<Container>) -> Result<Spec> {
    let path = entry.dir().join("config.json");
    Ok(Spec::load(&path).with_context(|| format!("reading {}", path.display()))?)
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).context("writing JSON")?;
    Ok(fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?)
}

/// Mounts the images that the request names as volumes, each below the container's folder; in the order of its mounts.
pub async fn image_mounts(
    shared: &Shared,
    sandbox: &Entry<Sandbox>,
    entry: &Entry<Container>,
    label: Option<&str>,
) -> Result<Vec<Option<PathBuf>>> {
    let record = entry.now();
    let mut roots = Vec::new();
    for (index, mount) in record.config.mounts.iter().enumerate() {
        let Some(image) = &mount.image else {
            roots.push(None);
            continue;
        };
        let image = shared.image(&image.image)?;
        shared.images.hold(image.id.as_str(), &entry.id)?;
        entry.change(|record| {
            record.volume_images.push(image.id.to_string());
            // `ContainerStatus` tells which image a name stood for
            if let Some(named) = record.config.mounts.get_mut(index).and_then(|mount| mount.image.as_mut()) {
                named.image_ref = image.id.to_string();
            }
        })?;
        let dir = entry.dir().join(format!("image-{index}"));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let snapshot = Snapshot::of(&dir);
        let layers = shared.images.layers(image.id.as_str()).await?;
        super::create::mount_layers(shared, sandbox, &entry.id, &snapshot, &layers, label)?;
        roots.push(Some(sub_path(&snapshot.root, &mount.image_sub_path)?));
    }
    Ok(roots)
}

/// A folder or file of an image; no link in it leads out.
fn sub_path(root: &Path, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Ok(root.to_owned());
    }
    let found = inside::resolve(root, path);
    found.map_err(|error| Error::Invalid(format!("ImageVolumeMountFailed: image_sub_path {path:?}: {error}")))
}

fn mount_sources(config: &v1::ContainerConfig, image_mounts: &[Option<PathBuf>]) -> Result<Vec<MountSource>> {
    // a machine full of pods has thousands of mounts; only what shall propagate asks whose peers it has
    let propagates = config.mounts.iter().any(|mount| mount.propagation() != v1::MountPropagation::PropagationPrivate);
    let table = match propagates {
        true => fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?,
        false => String::new(),
    };
    let of = |(mount, image): (&v1::Mount, &Option<PathBuf>)| match image {
        Some(path) => Ok(MountSource { path: path.clone(), ..MountSource::default() }),
        None => Ok(sources::mount(&mount.host_path, &table)?),
    };
    config.mounts.iter().zip(image_mounts).map(of).collect()
}

/// Makes the image's own volumes, filled with what the image has there.
fn volumes(
    config: &v1::ContainerConfig,
    image: Option<&oci_spec::image::Config>,
    dir: &Path,
    root: &Path,
) -> Result<Vec<Volume>> {
    let volumes = image_volumes(config, image, &dir.join("volumes"));
    for volume in &volumes {
        fs::create_dir_all(&volume.source).with_context(|| format!("making {}", volume.source.display()))?;
        if let Ok(from) = inside::resolve(root, &volume.destination.display().to_string()) {
            crate::drivers::copy::tree(&from, &volume.source)?;
        }
    }
    Ok(volumes)
}

fn devices(config: &v1::ContainerConfig) -> Vec<Vec<DeviceNode>> {
    config.devices.iter().map(|device| sources::devices(Path::new(&device.host_path))).collect()
}

fn namespaces(
    shared: &Shared,
    sandbox: &Entry<Sandbox>,
    record: &Container,
    own: &SandboxNamespaces,
) -> Result<NamespacePaths> {
    let mut paths = sandbox::paths(&shared.namespaces_of(&sandbox.id), own);
    let asked = record.namespaces();
    if asked.pid() == NamespaceMode::Target {
        let target = shared.containers.get(&asked.target_id)?.now();
        if target.sandbox_id != sandbox.id {
            return Err(Error::Invalid(format!("container {:?} is in another sandbox", asked.target_id)));
        }
        lifecycle::must_run(&target)?;
        paths.target_pid = Some(format!("/proc/{}/ns/pid", target.pid).into());
    }
    Ok(paths)
}

/// Texts of CDI files, read only when a device of theirs is asked for.
fn cdi_specs(config: &v1::ContainerConfig) -> Result<Vec<String>> {
    if cdi_devices(config)?.is_empty() {
        return Ok(Vec::new());
    }
    let mut texts = Vec::new();
    for dir in CDI_DIRS {
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            texts.push(fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?);
        }
    }
    Ok(texts)
}

/// What the kernel has now: profiles come and go while the runtime runs.
fn apparmor() -> Result<Option<AppArmor>> {
    let found = pintle_launch::apparmor::profiles()?;
    Ok(found.map(|found| AppArmor { loaded: found.loaded, default: found.default }))
}

fn seccomp_profile(config: &v1::ContainerConfig) -> Result<Option<String>> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default();
    #[allow(deprecated)]
    sources::seccomp_profile(context.seccomp.as_ref(), &context.seccomp_profile_path)
}

fn user(spec: &Spec) -> v1::LinuxContainerUser {
    let Some(process) = spec.process() else { return v1::LinuxContainerUser::default() };
    let user = process.user();
    let mut groups = vec![i64::from(user.gid())];
    groups.extend(user.additional_gids().iter().flatten().map(|gid| i64::from(*gid)));
    let mut seen = std::collections::HashSet::new();
    groups.retain(|group| seen.insert(*group));
    v1::LinuxContainerUser { uid: user.uid().into(), gid: user.gid().into(), supplemental_groups: groups }
}
