//! The runtime specification of a container: every part from the file that knows it, put together.
//!
//! Must not know: the rules of any part.

use std::path::PathBuf;

use oci_spec::image::Config;
use oci_spec::runtime::{Linux, Mount, Process, Root, Spec};
use pintle_cri::v1;
use pintle_cri::v1::{ContainerConfig, LinuxContainerSecurityContext, NamespaceMode, PodSandboxConfig};

use crate::devices::{Devices, devices};
use crate::mounts::{Bind, Mounts, Shape, clean};
use crate::namespaces::{UserMappings, sandbox_options};
use crate::selinux::Labels;
use crate::{
    AppArmor, DeviceNode, Host, Invalid, MountSource, NamespacePaths, SandboxFiles, UserDatabase, Volume, annotations,
    apparmor, capabilities, cdi, cgroups, files, mounts, namespaces, process, resources, seccomp, selinux, users,
};

/// The version of the runtime specification whose words are used (`rro` among them).
pub(crate) const OCI_VERSION: &str = "1.1.0";

/// A request for a container with everything the caller found for it.
#[derive(Clone, Debug)]
pub struct ContainerInput<'a> {
    pub id: &'a str,
    pub config: &'a ContainerConfig,
    pub sandbox_id: &'a str,
    pub sandbox: &'a PodSandboxConfig,
    pub image: Option<&'a Config>,
    /// As the user named the image.
    pub image_name: &'a str,
    /// The root file system: absolute, or relative to the bundle.
    pub rootfs: PathBuf,
    pub users: UserDatabase<'a>,
    pub namespaces: &'a NamespacePaths,
    pub files: &'a SandboxFiles,
    /// For each of `config.mounts`, in its order, what is at its host path, or at its image's sub path.
    pub mounts: &'a [MountSource],
    /// [`crate::image_volumes`], made.
    pub volumes: &'a [Volume],
    /// For each of `config.devices`, in its order, the nodes at its host path.
    pub devices: &'a [Vec<DeviceNode>],
    /// Texts of the host's CDI specifications, the more important later; looked at only when the request names devices.
    pub cdi_specs: &'a [String],
    /// Text of the profile that [`crate::localhost_ref`] names.
    pub seccomp_profile: Option<&'a str>,
    /// SELinux' level of the pod's containers that are given none; empty where the host has no SELinux.
    pub selinux_level: &'a str,
    /// `None` where the host has none.
    pub apparmor: Option<&'a AppArmor>,
    pub host: &'a Host,
}

/// The runtime specification of a container.
///
/// # Errors
/// A field of the request that cannot be honoured.
pub fn container_spec(input: &ContainerInput<'_>) -> Result<Spec, Invalid> {
    let context = security_context(input.config);
    if context.privileged && !sandbox_is_privileged(input.sandbox) {
        return Err(Invalid::new("linux.security_context.privileged", "no privileged container allowed in sandbox"));
    }
    let own = context.selinux_options.as_ref();
    let (of_pod, host) = (sandbox_labels(input.sandbox), input.host.selinux.as_ref());
    let labels = selinux::labels(own, of_pod, input.selinux_level, context.privileged, host)?;
    let (spaces, user) = namespaces::of_container(&context, input.sandbox, input.namespaces, input.host)?;
    let process = process(input, &context, &labels)?;
    let mounts = all_mounts(input, &context, user.as_ref())?;
    let mut linux = linux(input, &context, &process)?;
    linux.set_namespaces(Some(spaces));
    map_users(&mut linux, user);
    linux.set_rootfs_propagation(mounts.rootfs_propagation.map(str::to_owned));
    linux.set_mount_label(labels.mount);
    let mut spec = assemble(root(input.rootfs.clone(), context.readonly_rootfs), process, mounts.list, linux);
    let name = input.config.metadata.clone().unwrap_or_default().name;
    let annotations = annotations::of_container(input.sandbox_id, input.sandbox, &name, input.image_name);
    spec.set_annotations(Some(annotations));
    cdi::inject(&mut spec, &cdi::requested(input.config)?, input.cdi_specs, &input.host.devices)?;
    Ok(spec)
}

/// SELinux' label of a container's files, which its root is mounted with; `None` where the host has no SELinux.
///
/// # Errors
/// A level that is none.
pub fn mount_label(
    config: &ContainerConfig,
    sandbox: &PodSandboxConfig,
    level: &str,
    host: &Host,
) -> Result<Option<String>, Invalid> {
    let context = security_context(config);
    let own = context.selinux_options.as_ref();
    Ok(selinux::labels(own, sandbox_labels(sandbox), level, context.privileged, host.selinux.as_ref())?.mount)
}

fn sandbox_labels(sandbox: &PodSandboxConfig) -> Option<&v1::SeLinuxOption> {
    sandbox.linux.as_ref()?.security_context.as_ref()?.selinux_options.as_ref()
}

fn security_context(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

fn sandbox_is_privileged(sandbox: &PodSandboxConfig) -> bool {
    let context = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged)
}

fn process(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    labels: &Labels,
) -> Result<Process, Invalid> {
    let image_user = input.image.and_then(|image| image.user().as_deref()).unwrap_or_default();
    let identity = users::identity(context, image_user, input.users)?;
    let args = process::arguments(input.config, input.image)?;
    let hostname = files::hostname(input.sandbox, input.host);
    let env = process::environment(input.config, input.image, hostname)?;
    let mut process = process::bare(args, env, process::folder(input.config, input.image), &identity);
    process.set_terminal(Some(input.config.tty));
    process.set_no_new_privileges(Some(context.no_new_privs));
    process.set_capabilities(Some(capabilities::of(context, &input.host.capabilities)?));
    process.set_apparmor_profile(apparmor::profile(context, input.apparmor)?);
    process.set_selinux_label(labels.process.clone());
    let limits = input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    process.set_oom_score_adj(resources::oom_score_adj(limits, input.host)?);
    process::limit(&mut process, input.host);
    Ok(process)
}

fn linux(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    process: &Process,
) -> Result<Linux, Invalid> {
    let host = input.host;
    let asked = input.config.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default();
    let mut limits = resources::resources(&asked, host)?;
    let all = context.privileged.then_some(host.devices.as_slice());
    let Devices { nodes, rules } = devices(&input.config.devices, input.devices, all)?;
    limits.set_devices(Some(rules));
    let parent = input.sandbox.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
    let mut linux = bare_linux();
    linux.set_cgroups_path(Some(cgroups::cgroup_path(parent, input.id, host)?.into()));
    linux.set_resources(Some(limits));
    linux.set_devices(Some(nodes).filter(|nodes| !nodes.is_empty()));
    if !context.privileged {
        linux.set_masked_paths(Some(context.masked_paths.clone()));
        linux.set_readonly_paths(Some(context.readonly_paths.clone()));
        linux.set_seccomp(filter(input, context, process)?);
    }
    Ok(linux)
}

fn filter(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    process: &Process,
) -> Result<Option<oci_spec::runtime::LinuxSeccomp>, Invalid> {
    #[allow(deprecated)]
    let wanted = seccomp::wanted(context.seccomp.as_ref(), &context.seccomp_profile_path)?;
    let held = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    seccomp::filter(&wanted, input.host.seccomp, &held, input.seccomp_profile)
}

/// Nothing but what is set later; `Linux::default` has opinions of its own.
pub(crate) fn bare_linux() -> Linux {
    let mut linux = Linux::default();
    linux.set_resources(None);
    linux.set_namespaces(None);
    linux.set_masked_paths(Some(Vec::new()));
    linux.set_readonly_paths(Some(Vec::new()));
    linux
}

pub(crate) fn map_users(linux: &mut Linux, user: Option<UserMappings>) {
    if let Some(UserMappings { uids, gids }) = user {
        linux.set_uid_mappings(Some(uids));
        linux.set_gid_mappings(Some(gids));
    }
}

pub(crate) fn root(path: PathBuf, readonly: bool) -> Root {
    let mut root = Root::default();
    root.set_path(path);
    root.set_readonly(Some(readonly));
    root
}

pub(crate) fn assemble(root: Root, process: Process, mounts: Vec<Mount>, linux: Linux) -> Spec {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_process(Some(process));
    spec.set_mounts(Some(mounts));
    spec.set_linux(Some(linux));
    // The UTS namespace has its name already: the sandbox's.
    spec.set_hostname(None);
    spec
}

fn all_mounts(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    user: Option<&UserMappings>,
) -> Result<Mounts, Invalid> {
    let asked = &input.config.mounts;
    if asked.len() != input.mounts.len() {
        let reason = format!("{} mounts with {} sources", asked.len(), input.mounts.len());
        return Err(Invalid::new("mounts", reason));
    }
    let shape = Shape {
        privileged: context.privileged,
        user_namespace: user.is_some(),
        host_network: sandbox_options(input.sandbox).network() == NamespaceMode::Node,
        host: input.host,
    };
    let own = own_binds(input, context, user.is_some());
    let given = asked.iter().map(image_mount).collect::<Result<Vec<_>, _>>()?;
    let named = given.iter().zip(input.mounts).enumerate();
    let named = named.map(|(index, (mount, source))| bind(format!("mounts[{index}]"), mount, source.clone()));
    let added = own.iter().map(|mount| bind(String::new(), mount, at(&mount.host_path)));
    mounts::mounts(&shape, named.chain(added).collect())
}

fn bind(field: String, mount: &v1::Mount, source: MountSource) -> Bind<'_> {
    Bind { field, mount, source }
}

fn at(path: &str) -> MountSource {
    MountSource { path: path.into(), ..MountSource::default() }
}

/// A mount of an image has no host path and is read-only; its layers' own mount maps the owners.
fn image_mount(mount: &v1::Mount) -> Result<v1::Mount, Invalid> {
    if mount.image.is_none() {
        return Ok(mount.clone());
    }
    let refuse = |reason: &str| {
        let place = &mount.container_path;
        Err(Invalid::new("mounts", format!("ImageVolumeMountFailed: {reason} while mount image (at {place:?})")))
    };
    match (mount.host_path.is_empty(), mount.readonly) {
        (false, _) => refuse("hostpath must be empty"),
        (_, false) => refuse("readonly must be true"),
        _ => Ok(v1::Mount { uid_mappings: Vec::new(), gid_mappings: Vec::new(), ..mount.clone() }),
    }
}

/// The pod's files and the image's volumes, where the request mounts nothing itself.
fn own_binds(
    input: &ContainerInput<'_>,
    context: &LinuxContainerSecurityContext,
    user_namespace: bool,
) -> Vec<v1::Mount> {
    let covered = |path: &str| input.config.mounts.iter().any(|mount| clean(&mount.container_path) == clean(path));
    let options = context.namespace_options.as_ref().and_then(|options| options.userns_options.clone());
    let options = options.filter(|_| user_namespace && input.host.id_mapped_mounts).unwrap_or_default();
    // the pod's files are its root's as they are: kernels before 6.3 map the owners of no tmpfs
    let mut list = input.files.binds(context.readonly_rootfs);
    list.extend(input.volumes.iter().map(|volume| v1::Mount {
        container_path: volume.destination.display().to_string(),
        host_path: volume.source.display().to_string(),
        uid_mappings: options.uids.clone(),
        gid_mappings: options.gids.clone(),
        ..Default::default()
    }));
    list.retain(|mount| !covered(&mount.container_path));
    list
}
