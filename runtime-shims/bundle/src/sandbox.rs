//! The runtime specification of a sandbox's own process, for pods that need one, and the files of a sandbox.
//!
//! Must not know: whether a pod needs the process.

use std::path::PathBuf;

use oci_spec::image::Config;
use oci_spec::runtime::{LinuxCpu, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Process, Spec};
use pintle_cri::v1;
use pintle_cri::v1::{LinuxSandboxSecurityContext, NamespaceMode, PodSandboxConfig};

use crate::container::{assemble, bare_linux, map_users, root};
use crate::devices::devices;
use crate::mounts::{MASKED_PATHS, READONLY_PATHS, Shape};
use crate::namespaces::{joined, new, sandbox_namespaces, sandbox_options};
use crate::{
    CgroupVersion, Host, Invalid, NamespacePaths, annotations, capabilities, cgroups, mounts, process, resources,
    sandbox_sysctls, seccomp, selinux, users,
};

/// Upstream's `defaultSandboxOOMAdj`: among the last to go.
const OOM_SCORE_ADJ: i64 = -998;
/// The least there is: the process sleeps.
const CPU_SHARES: u64 = 2;

/// Where containers have their pod's shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// Where the files that all containers of a pod see lie on the host; one that is `None` is not mounted. They belong to the
/// pod's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxFiles {
    pub hostname: Option<PathBuf>,
    pub hosts: Option<PathBuf>,
    pub resolv_conf: Option<PathBuf>,
    /// The pod's `/dev/shm`: a tmpfs of its own, or the host's.
    pub shm: Option<PathBuf>,
}

impl SandboxFiles {
    /// As mounts of a container; the files are read-only with its root.
    pub(crate) fn binds(&self, readonly: bool) -> Vec<v1::Mount> {
        let files = [
            ("/etc/hostname", &self.hostname, readonly),
            ("/etc/hosts", &self.hosts, readonly),
            ("/etc/resolv.conf", &self.resolv_conf, readonly),
            (SHARED_MEMORY, &self.shm, false),
        ];
        let one = |(place, path, readonly): (&str, &Option<PathBuf>, bool)| {
            let host_path = path.as_ref()?.display().to_string();
            Some(v1::Mount { container_path: place.to_owned(), host_path, readonly, ..Default::default() })
        };
        files.into_iter().filter_map(one).collect()
    }
}

/// A request for a sandbox's own process with everything the caller found for it.
#[derive(Clone, Debug)]
pub struct SandboxInput<'a> {
    pub id: &'a str,
    pub config: &'a PodSandboxConfig,
    /// The sandbox image's.
    pub image: Option<&'a Config>,
    pub image_name: &'a str,
    pub rootfs: PathBuf,
    /// Namespaces that are there already and are joined; the others the OCI runtime makes. A sandbox of the host's
    /// network joins none of either kind.
    pub namespaces: Option<&'a NamespacePaths>,
    pub files: &'a SandboxFiles,
    /// The parameters of [`sandbox_sysctls`] are set already, with the namespaces.
    pub sysctls_set: bool,
    pub seccomp_profile: Option<&'a str>,
    /// SELinux' level where the request gives none; empty where the host has no SELinux.
    pub selinux_level: &'a str,
    pub host: &'a Host,
}

/// The runtime specification of a sandbox's own process.
///
/// # Errors
/// A field of the request that cannot be honoured.
pub fn sandbox_spec(input: &SandboxInput<'_>) -> Result<Spec, Invalid> {
    let context = security_context(input.config);
    let own = sandbox_namespaces(input.config)?;
    let (asked, host) = (context.selinux_options.as_ref(), input.host.selinux.as_ref());
    let labels = selinux::labels(asked, None, input.selinux_level, context.privileged, host)?;
    let process = sandbox_process(input, &context, labels.process)?;
    let mut linux = bare_linux();
    linux.set_namespaces(Some(spaces(input)?));
    map_users(&mut linux, own.user.clone());
    linux.set_resources(Some(limits()?));
    let parent = input.config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
    linux.set_cgroups_path(Some(cgroups::cgroup_path(parent, input.id, input.host)?.into()));
    linux.set_masked_paths(Some(MASKED_PATHS.map(str::to_owned).into()));
    linux.set_readonly_paths(Some(READONLY_PATHS.map(str::to_owned).into()));
    linux.set_mount_label(labels.mount);
    if !context.privileged {
        linux.set_seccomp(filter(input, &context)?);
    }
    if !input.sysctls_set {
        linux.set_sysctl(Some(sandbox_sysctls(input.config, input.host)?.into_iter().collect()));
    }
    let shape =
        Shape { privileged: false, user_namespace: own.user.is_some(), host_network: !own.net, host: input.host };
    let mut spec = assemble(root(input.rootfs.clone(), true), process, mounts_of(input, &shape)?, linux);
    spec.set_hostname(Some(input.config.hostname.clone()).filter(|name| own.uts && !name.is_empty()));
    spec.set_annotations(Some(annotations::of_sandbox(input.id, input.config, input.image_name)));
    Ok(spec)
}

fn security_context(config: &PodSandboxConfig) -> LinuxSandboxSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

fn sandbox_process(
    input: &SandboxInput<'_>,
    context: &LinuxSandboxSecurityContext,
    label: Option<String>,
) -> Result<Process, Invalid> {
    let value = |number: &Option<v1::Int64Value>| number.as_ref().map(|number| number.value);
    let (user, group) = (value(&context.run_as_user), value(&context.run_as_group));
    let identity = users::sandbox_identity(user, group, &context.supplemental_groups)?;
    let nothing = v1::ContainerConfig::default();
    let args = process::arguments(&nothing, input.image)?;
    let env = process::environment(&nothing, input.image, &input.config.hostname)?;
    let mut process = process::bare(args, env, process::folder(&nothing, input.image), &identity);
    process.set_no_new_privileges(Some(true));
    process.set_capabilities(Some(capabilities::default()));
    process.set_selinux_label(label);
    let score = v1::LinuxContainerResources { oom_score_adj: OOM_SCORE_ADJ, ..Default::default() };
    process.set_oom_score_adj(resources::oom_score_adj(Some(&score), input.host)?);
    Ok(process)
}

fn limits() -> Result<LinuxResources, Invalid> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(CPU_SHARES));
    let mut limits = LinuxResources::default();
    limits.set_cpu(Some(cpu));
    limits.set_devices(Some(devices(&[], &[], None)?.rules));
    Ok(limits)
}

fn filter(
    input: &SandboxInput<'_>,
    context: &LinuxSandboxSecurityContext,
) -> Result<Option<oci_spec::runtime::LinuxSeccomp>, Invalid> {
    #[allow(deprecated)]
    let wanted = seccomp::wanted(context.seccomp.as_ref(), &context.seccomp_profile_path)?;
    let held = capabilities::DEFAULT.into_iter().collect();
    seccomp::filter(&wanted, input.host.seccomp, &held, input.seccomp_profile)
}

fn spaces(input: &SandboxInput<'_>) -> Result<Vec<LinuxNamespace>, Invalid> {
    let own = sandbox_namespaces(input.config)?;
    let paths = input.namespaces;
    let space = |kind, path: Option<&PathBuf>| match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => joined(kind, path),
        None => new(kind),
    };
    let mut list = vec![new(LinuxNamespaceType::Mount)];
    let wanted = [
        (own.net, LinuxNamespaceType::Network, paths.map(|paths| &paths.net)),
        (own.ipc, LinuxNamespaceType::Ipc, paths.map(|paths| &paths.ipc)),
        (own.uts, LinuxNamespaceType::Uts, paths.map(|paths| &paths.uts)),
        (own.user.is_some(), LinuxNamespaceType::User, paths.and_then(|paths| paths.user.as_ref())),
    ];
    list.extend(wanted.into_iter().filter(|(own, ..)| *own).map(|(_, kind, path)| space(kind, path)));
    // The process has a PID namespace also where each container has its own: nothing in it is the host's.
    if sandbox_options(input.config).pid() != NamespaceMode::Node {
        list.push(new(LinuxNamespaceType::Pid));
    }
    if input.host.cgroup_version == CgroupVersion::V2 {
        list.push(new(LinuxNamespaceType::Cgroup));
    }
    Ok(list)
}

/// The runtime's own mounts but the cgroup tree, and the pod's `/dev/shm` and `/etc/resolv.conf` (which kata reads).
fn mounts_of(input: &SandboxInput<'_>, shape: &Shape<'_>) -> Result<Vec<Mount>, Invalid> {
    let mut list = mounts::mounts(shape, Vec::new())?.list;
    list.retain(|mount| !mount.destination().starts_with("/sys/fs/cgroup"));
    let files = [(SHARED_MEMORY, &input.files.shm), ("/etc/resolv.conf", &input.files.resolv_conf)];
    let bound = |(place, path): (&str, &Option<PathBuf>)| {
        let path = path.as_ref()?.display().to_string();
        Some(mounts::mount(place, "bind", &path, &["rbind", "ro", "nosuid", "nodev", "noexec"]))
    };
    list.extend(files.into_iter().filter_map(bound));
    Ok(list)
}
