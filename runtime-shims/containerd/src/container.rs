//! Containers: made on a layer of their own, started, stopped, removed, resized.
//!
//! Must not know: how a sandbox is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1::{CreateContainerRequest, DeleteContainerRequest, UpdateTaskRequest};
use containerd_client::types::Mount as LayerMount;
use containerd_client::types::v1::Status as TaskStatus;
use oci_spec::runtime::Spec;
use pintle_bundle as bundle;
use pintle_bundle::{ContainerInput, MountSource, NamespacePaths, UserDatabase};
use pintle_cri::v1::{ContainerConfig, LinuxContainerResources, NamespaceMode, PodSandboxConfig, SecurityProfile};
use prost_types::Any;
use tonic::Status;

use crate::Inner;
use crate::client::{During, internal, request};
use crate::images::Found;
use crate::record::{CONTAINER, ContainerRecord, SandboxRecord, State, extensions, new_id, now};
use crate::sandbox::{invalid, spec_any};
use crate::snapshots::text_of;
use crate::streams;
use crate::tasks::{Pipes, kills};
use crate::users::volumes_with_maps;

const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
/// A seccomp profile or CDI specification beyond this is no profile.
const LARGEST_TEXT: u64 = 4 << 20;
const CDI_FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const DEVICE_DEPTH: usize = 4;

/// What a container finds on the host.
struct Disk {
    /// Its root, not mounted yet.
    layers: Vec<LayerMount>,
    /// What is at its mounts.
    sources: Vec<MountSource>,
}

impl Inner {
    /// Makes a container in a ready sandbox; its id. What was made is undone when a step fails.
    pub async fn create_container(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
        pod: &PodSandboxConfig,
    ) -> Result<String, Status> {
        let sandbox: SandboxRecord = self.get(sandbox_id).await?;
        if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
            return Err(Status::invalid_argument("the container has no metadata.name"));
        }
        if !self.sandbox_ready(&sandbox).await? {
            return Err(Status::failed_precondition(format!("sandbox container {sandbox_id:?} is not running")));
        }
        let asked = config.image.clone().unwrap_or_default().image;
        if asked.is_empty() {
            return Err(Status::invalid_argument("the container names no image"));
        }
        let image = self.image(&asked).await?;
        let image = image.ok_or_else(|| Status::not_found(format!("failed to resolve image {asked:?}: not found")))?;
        let id = new_id();
        match self.make_container(&id, &sandbox, config, pod, &image).await {
            Ok(()) => Ok(id),
            Err(status) => {
                self.undo_container(&id).await;
                Err(status)
            }
        }
    }

    async fn make_container(
        &self,
        id: &str,
        sandbox: &SandboxRecord,
        mut config: ContainerConfig,
        pod: &PodSandboxConfig,
        image: &Found,
    ) -> Result<(), Status> {
        self.unpack(&image.facts).await?;
        let lease = self.client.lease().await.during("containerd gave no lease")?;
        let layers = image.facts.config.rootfs().diff_ids().len();
        let layers = self.prepare(&lease, id, image.facts.chain_id(layers)).await?;
        let label = bundle::mount_label(&config, pod, &sandbox.state.selinux_level, &self.host).map_err(invalid)?;
        let images = self.mount_images(&lease, id, &mut config, label.as_deref()).await?;
        let (shown, mapped) = self.shown(id, self.users(sandbox)?.as_ref(), &config)?;
        let mut disk = Disk { layers, sources: sources(&config, &images)? };
        for (index, place) in mapped {
            disk.sources.iter_mut().skip(index).take(1).for_each(|source| source.path.clone_from(&place));
        }
        let spec = self.spec(id, sandbox, &shown, pod, image, &disk).await?;
        label.map_or(Ok(()), |label| self.label_files(id, sandbox, &config, &label))?;
        let image_config = image.facts.config.config().as_ref();
        let state = State {
            created_at: now(),
            runtime_handler: sandbox.state.runtime_handler.clone(),
            sandbox: sandbox.id.clone(),
            image: image.facts.id.clone(),
            image_ref: image.digests.first().unwrap_or(&image.facts.id).clone(),
            log_path: log_path(pod, &config),
            stop_signal: bundle::stop_signal(&config, image_config).map_err(invalid)?.number,
            user: user_of(&spec),
            ..State::default()
        };
        let name = config.image.clone().unwrap_or_default().image;
        let container = self.container(id, CONTAINER, &name, spec_any(&spec)?, extensions(&config, &state)?);
        let create = CreateContainerRequest { container: Some(container) };
        self.told.belongs(id, &sandbox.id, false);
        self.client.containers().create(lease.request(create)).await.during("failed to create containerd container")?;
        Ok(())
    }

    async fn spec(
        &self,
        id: &str,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
        pod: &PodSandboxConfig,
        image: &Found,
        disk: &Disk,
    ) -> Result<Spec, Status> {
        let image_config = image.facts.config.config().as_ref();
        let volumes = bundle::image_volumes(config, image_config, &self.config.container_root(id).join("volumes"));
        let users = self.users(sandbox)?;
        for volume in &volumes {
            fs::create_dir_all(&volume.source).map_err(internal).during("making a volume of the image")?;
            users.as_ref().map_or(Ok(()), |users| users.own(&volume.source))?;
        }
        let (passwd, group) = (text_of(&disk.layers, "etc/passwd"), text_of(&disk.layers, "etc/group"));
        let profile = profile(config)?;
        let cdi_specs = if bundle::cdi_devices(config).map_err(invalid)?.is_empty() { Vec::new() } else { cdi_specs() };
        let image_name = config.image.clone().unwrap_or_default().user_specified_image;
        let devices: Vec<_> = config
            .devices
            .iter()
            .map(|device| crate::host::nodes(Path::new(&device.host_path), DEVICE_DEPTH))
            .collect();
        let apparmor = crate::host::apparmor().map_err(internal)?;
        let input = ContainerInput {
            id,
            config,
            sandbox_id: &sandbox.id,
            sandbox: pod,
            image: image_config,
            image_name: if image_name.is_empty() { &image.facts.id } else { &image_name },
            rootfs: "rootfs".into(),
            users: UserDatabase { passwd: &passwd, group: &group },
            namespaces: &self.namespaces(sandbox, config).await?,
            files: &self.config.sandbox_files(&sandbox.id, pod),
            mounts: &disk.sources,
            volumes: &volumes,
            devices: &devices,
            cdi_specs: &cdi_specs,
            seccomp_profile: profile.as_deref(),
            selinux_level: &sandbox.state.selinux_level,
            apparmor: apparmor.as_ref(),
            host: &self.host,
        };
        bundle::container_spec(&input).map_err(invalid)
    }

    /// The sandbox's namespaces, those of its process among them.
    async fn namespaces(&self, sandbox: &SandboxRecord, config: &ContainerConfig) -> Result<NamespacePaths, Status> {
        let gone = || Status::failed_precondition(format!("sandbox {} has no process", sandbox.id));
        let pid = self.task(&sandbox.id).await?.ok_or_else(gone)?.pid;
        let of = |pid: u32, kind: &str| PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
        let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let options = context.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
        let target_pid = match options.pid() {
            NamespaceMode::Target => Some(of(self.target(sandbox, &options.target_id).await?, "pid")),
            _ => None,
        };
        Ok(NamespacePaths {
            net: sandbox.state.netns.clone().unwrap_or_default(),
            ipc: of(pid, "ipc"),
            uts: of(pid, "uts"),
            pid: Some(of(pid, "pid")),
            user: self.users(sandbox)?.map(|users| users.namespace),
            target_pid,
        })
    }

    /// The process of the container whose PID namespace is wanted.
    async fn target(&self, sandbox: &SandboxRecord, id: &str) -> Result<u32, Status> {
        let target: ContainerRecord = self.get(id).await.during("invalid target container")?;
        if target.state.sandbox != sandbox.id {
            let reason = format!("invalid target container: {id:?} does not belong to sandbox {}", sandbox.id);
            return Err(Status::invalid_argument(reason));
        }
        match self.task(id).await? {
            Some(task) if task.status() == TaskStatus::Running => Ok(task.pid),
            _ => Err(Status::failed_precondition(format!("invalid target container: {id:?} is not running"))),
        }
    }

    async fn undo_container(&self, id: &str) {
        if let Err(status) = self.dismantle_container(id).await {
            tracing::warn!(
                container = id,
                message = status.message(),
                "a container that failed was not cleaned up whole"
            );
        }
    }

    async fn dismantle_container(&self, id: &str) -> Result<(), Status> {
        self.kill_task(id).await?;
        self.delete_task(id).await?;
        if let Some(record) = self.find::<ContainerConfig>(id).await? {
            self.forget_streams(&record).await;
        }
        let delete = DeleteContainerRequest { id: id.to_owned() };
        let gone = self.client.containers().delete(request(delete)).await.or_gone().during("removing a container")?;
        if gone.is_none() {
            self.told.forget(id);
        }
        self.remove_snapshot(id).await?;
        self.unmount_images(id).await?;
        self.config.remove_container_files(id).map_err(internal)
    }

    /// Starts a container that was never started. When it cannot be, it counts as ended, with the reason as its message.
    pub async fn start_container(&self, id: &str) -> Result<(), Status> {
        let mut record: ContainerRecord = self.get(id).await?;
        if record.state.started_at != 0 || record.state.finished_at != 0 {
            let reason = format!("container {id:?} is not in state created: it was started before");
            return Err(Status::failed_precondition(reason));
        }
        let kept = self.keep_streams(&record).await.map_err(internal).during("keeping a container's streams");
        let (monitor, launched) = match kept {
            Ok((pipes, monitor)) => (Some(monitor), self.launch(&record, pipes).await),
            Err(status) => (None, Err(status)),
        };
        let Err(status) = launched else { return Ok(()) };
        if let Some(monitor) = monitor {
            streams::forget(&monitor, id).await;
        }
        self.kill_task(id).await?;
        self.delete_task(id).await?;
        record.state.finished_at = now();
        record.state.exit_code = 128;
        record.state.message = status.message().to_owned();
        self.write_state(id, &record.state).await?;
        Err(status)
    }

    async fn launch(&self, record: &ContainerRecord, pipes: Pipes) -> Result<(), Status> {
        let input = !pipes.stdin.is_empty() && !pipes.terminal;
        let mut mounts = self.labelled_layers(&record.id, &record.spec).await?;
        let users = self.users(&self.get(&record.state.sandbox).await?)?;
        // until the shim and runc have mounted them
        let _mapped = self.map(&record.id, users.as_ref(), &volumes_with_maps(record)?, &mut mounts)?;
        let pid = self.create_task(&record.id, mounts, pipes).await?;
        // Before it starts: an end that is told at once must find it started.
        let state = State { started_at: now(), kills: kills(pid), ..record.state.clone() };
        self.write_state(&record.id, &state).await?;
        self.start_task(&record.id).await?;
        if input {
            // the shim's own writing end would keep the input from ever ending; the monitor's stays
            self.close_input(&record.id, "").await?;
        }
        Ok(())
    }

    /// Asks a container to end with its signal, and after `timeout` seconds ends it.
    pub async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let Some(record): Option<ContainerRecord> = self.find(id).await? else { return Ok(()) };
        let running = self.task(id).await?.is_some_and(|task| task.status() != TaskStatus::Stopped);
        if running && timeout > 0 {
            let signal = record.state.stop_signal.try_into().unwrap_or(15);
            self.signal(id, "", signal, false).await.during("stopping a container")?;
            self.wait_task(id, Duration::from_secs(timeout.unsigned_abs())).await?;
        }
        self.kill_task(id).await?;
        self.settle(id).await.map(drop)
    }

    pub async fn remove_container(&self, id: &str) -> Result<(), Status> {
        if self.find::<ContainerConfig>(id).await?.is_none() {
            return Ok(());
        }
        self.dismantle_container(id).await
    }

    /// Changes limits in place: in the record, and in the cgroup of a container that runs.
    pub async fn update_container(&self, id: &str, asked: &LinuxContainerResources) -> Result<(), Status> {
        let record: ContainerRecord = self.get(id).await?;
        let mut spec: Spec = serde_json::from_slice(&record.spec).map_err(internal)?;
        let Some(linux) = spec.linux_mut() else { return Err(Status::internal("the container has no limits")) };
        let mut limits = linux.resources().clone().unwrap_or_default();
        bundle::update(&mut limits, asked, &self.host).map_err(invalid)?;
        linux.set_resources(Some(limits.clone()));
        if self.task(id).await?.is_some_and(|task| task.status() == TaskStatus::Running) {
            // Rules of devices cannot be changed in place, and need not be.
            limits.set_devices(None);
            let value = serde_json::to_vec(&limits).map_err(internal)?;
            let resources = Some(Any { type_url: RESOURCES_TYPE.to_owned(), value });
            let update = UpdateTaskRequest { container_id: id.to_owned(), resources, ..Default::default() };
            self.client.tasks().update(request(update)).await.during("failed to update resources")?;
        }
        self.write_spec(id, spec_any(&spec)?).await
    }
}

fn log_path(pod: &PodSandboxConfig, config: &ContainerConfig) -> Option<PathBuf> {
    let given = !pod.log_directory.is_empty() && !config.log_path.is_empty();
    given.then(|| Path::new(&pod.log_directory).join(&config.log_path))
}

fn user_of(spec: &Spec) -> (u32, u32, Vec<u32>) {
    let user = spec.process().as_ref().map(|process| process.user().clone()).unwrap_or_default();
    (user.uid(), user.gid(), user.additional_gids().clone().unwrap_or_default())
}

/// What is at the host paths of the mounts, or the images that are there; a path that is missing is made, as containerd
/// does.
fn sources(config: &ContainerConfig, images: &[Option<PathBuf>]) -> Result<Vec<MountSource>, Status> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(internal)?;
    let source = |(mount, image): (&pintle_cri::v1::Mount, &Option<PathBuf>)| {
        if let Some(path) = image {
            return Ok(MountSource { path: path.clone(), ..MountSource::default() });
        }
        let wanted = Path::new(&mount.host_path);
        if !wanted.exists() {
            fs::create_dir_all(wanted).map_err(internal).during(format!("failed to mkdir {:?}", mount.host_path))?;
        }
        let path = fs::canonicalize(wanted).map_err(internal);
        let path = path.during(format!("failed to resolve symlink {:?}", mount.host_path))?;
        let (mountpoint, peers) = bundle::peers(&mountinfo, &path);
        Ok(MountSource { path, mountpoint, peers })
    };
    config.mounts.iter().zip(images).map(source).collect()
}

fn profile(config: &ContainerConfig) -> Result<Option<String>, Status> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default();
    #[allow(deprecated)]
    seccomp_profile(context.seccomp.as_ref(), &context.seccomp_profile_path)
}

/// Text of the host's seccomp profile that a security context names, by the newer field or the older.
pub fn seccomp_profile(profile: Option<&SecurityProfile>, path: &str) -> Result<Option<String>, Status> {
    let named = bundle::localhost_ref(profile, path).map_err(invalid)?;
    Ok(named.and_then(|file| read_bounded(Path::new(&file))))
}

fn cdi_specs() -> Vec<String> {
    let files = CDI_FOLDERS.iter().filter_map(|dir| fs::read_dir(dir).ok()).flat_map(|entries| {
        let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        paths.sort();
        paths
    });
    let known = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json" || kind == "yaml");
    files.filter(known).filter_map(|path| read_bounded(&path)).collect()
}

fn read_bounded(path: &Path) -> Option<String> {
    let fits = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= LARGEST_TEXT);
    if fits { fs::read_to_string(path).ok() } else { None }
}
