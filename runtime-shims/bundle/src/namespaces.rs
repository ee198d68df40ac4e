//! Which namespaces a sandbox has and which ones a container joins or makes.
//!
//! Must not know: how namespaces are made.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType};
use pintle_cri::v1::UserNamespace;
use pintle_cri::v1::{IdMapping, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig};

use crate::mounts::mappings;
use crate::{CgroupVersion, Host, Invalid};

const FIELD: &str = "linux.security_context.namespace_options";

/// Where the namespaces of a sandbox can be joined. Those the sandbox shares with the host are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacePaths {
    pub net: PathBuf,
    pub ipc: PathBuf,
    pub uts: PathBuf,
    /// Of the sandbox's own process; needed when its containers share a PID namespace.
    pub pid: Option<PathBuf>,
    /// Needed when the pod has a user namespace.
    pub user: Option<PathBuf>,
    /// PID namespace of the container that `target_id` names, for mode TARGET.
    pub target_pid: Option<PathBuf>,
}

/// Which users of the host a user namespace's users are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserMappings {
    pub uids: Vec<LinuxIdMapping>,
    pub gids: Vec<LinuxIdMapping>,
}

/// The namespaces that a sandbox needs of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxNamespaces {
    pub net: bool,
    pub ipc: bool,
    /// Goes with the network: a pod of the host's network has the host's name.
    pub uts: bool,
    /// Its containers share a PID namespace: a process of the sandbox must be its first.
    pub pid: bool,
    pub user: Option<UserMappings>,
}

/// What a sandbox's configuration asks for.
///
/// # Errors
/// A user namespace without mappings, mappings without a user namespace, modes that a sandbox cannot have.
pub fn sandbox_namespaces(config: &PodSandboxConfig) -> Result<SandboxNamespaces, Invalid> {
    let options = sandbox_options(config);
    for (name, mode) in [("network", options.network()), ("ipc", options.ipc())] {
        if matches!(mode, NamespaceMode::Container | NamespaceMode::Target) {
            return Err(unsupported(name, mode));
        }
    }
    if options.pid() == NamespaceMode::Target {
        return Err(unsupported("pid", options.pid()));
    }
    Ok(SandboxNamespaces {
        net: options.network() == NamespaceMode::Pod,
        ipc: options.ipc() == NamespaceMode::Pod,
        uts: options.network() == NamespaceMode::Pod,
        pid: options.pid() == NamespaceMode::Pod,
        user: user_mappings(options.userns_options.as_ref())?,
    })
}

pub(crate) fn sandbox_options(config: &PodSandboxConfig) -> NamespaceOption {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.and_then(|context| context.namespace_options.clone()).unwrap_or_default()
}

fn unsupported(name: &str, mode: NamespaceMode) -> Invalid {
    Invalid::new(format!("{FIELD}.{name}"), format!("unsupported mode: {:?}", mode.as_str_name()))
}

/// The namespaces of a container in a sandbox of this configuration.
pub(crate) fn of_container(
    context: &LinuxContainerSecurityContext,
    sandbox: &PodSandboxConfig,
    paths: &NamespacePaths,
    host: &Host,
) -> Result<(Vec<LinuxNamespace>, Option<UserMappings>), Invalid> {
    let pod = sandbox_namespaces(sandbox)?;
    let options = context.namespace_options.clone().unwrap_or_default();
    same_user_namespace(sandbox, &options)?;
    let mut list = vec![new(LinuxNamespaceType::Mount)];
    let shared = [
        (pod.net, LinuxNamespaceType::Network, &paths.net),
        (pod.ipc, LinuxNamespaceType::Ipc, &paths.ipc),
        (pod.uts, LinuxNamespaceType::Uts, &paths.uts),
    ];
    list.extend(shared.into_iter().filter(|(own, ..)| *own).map(|(_, kind, path)| joined(kind, path)));
    list.extend(pid(&options, paths)?);
    if pod.user.is_some() {
        let field = format!("{FIELD}.userns_options");
        let path = paths.user.as_ref().ok_or_else(|| Invalid::new(field, "the sandbox has no user namespace"))?;
        list.push(joined(LinuxNamespaceType::User, path));
    }
    // A v1 hierarchy shows its path in any case, and a privileged container manages the host's.
    if host.cgroup_version == CgroupVersion::V2 && !context.privileged {
        list.push(new(LinuxNamespaceType::Cgroup));
    }
    Ok((list, pod.user))
}

fn pid(options: &NamespaceOption, paths: &NamespacePaths) -> Result<Option<LinuxNamespace>, Invalid> {
    let join = |path: &Option<PathBuf>, missing: &str| {
        let path = path.as_ref().ok_or_else(|| Invalid::new(format!("{FIELD}.pid"), missing))?;
        Ok(Some(joined(LinuxNamespaceType::Pid, path)))
    };
    match options.pid() {
        NamespaceMode::Container => Ok(Some(new(LinuxNamespaceType::Pid))),
        NamespaceMode::Node => Ok(None),
        NamespaceMode::Pod => join(&paths.pid, "the sandbox has no PID namespace to share"),
        NamespaceMode::Target => {
            join(&paths.target_pid, &format!("invalid target container: {:?} is not running", options.target_id))
        }
    }
}

fn same_user_namespace(sandbox: &PodSandboxConfig, options: &NamespaceOption) -> Result<(), Invalid> {
    let pod = user_mappings(sandbox_options(sandbox).userns_options.as_ref())?;
    if user_mappings(options.userns_options.as_ref())? == pod {
        return Ok(());
    }
    let reason = "user namespace config for sandbox is different from container";
    Err(Invalid::new(format!("{FIELD}.userns_options"), reason))
}

/// The mappings of a pod with a user namespace of its own, `None` for one of the node's.
pub(crate) fn user_mappings(options: Option<&UserNamespace>) -> Result<Option<UserMappings>, Invalid> {
    let Some(options) = options else { return Ok(None) };
    let refuse = |reason: String| Err(Invalid::new(format!("{FIELD}.userns_options"), reason));
    let (uids, gids) = (single("UID", &options.uids)?, single("GID", &options.gids)?);
    match NamespaceMode::try_from(options.mode) {
        Ok(NamespaceMode::Node) if uids.is_empty() && gids.is_empty() => Ok(None),
        Ok(NamespaceMode::Node) => refuse(format!(
            "can't use user namespace mode \"NODE\" with mappings. Got {} UID mappings and {} GID mappings",
            uids.len(),
            gids.len()
        )),
        Ok(NamespaceMode::Pod) if uids.is_empty() || gids.is_empty() => {
            refuse("can't use user namespace mode \"POD\" without UID and GID mappings".to_owned())
        }
        Ok(NamespaceMode::Pod) => Ok(Some(UserMappings { uids, gids })),
        Ok(mode) => refuse(format!("unsupported user namespace mode: {:?}", mode.as_str_name())),
        Err(_) => refuse(format!("unsupported user namespace mode: {}", options.mode)),
    }
}

/// One line at most, as containerd and the kubelet have it.
fn single(what: &str, given: &[IdMapping]) -> Result<Vec<LinuxIdMapping>, Invalid> {
    let refuse =
        |reason: String| Err(Invalid::new(format!("{FIELD}.userns_options"), format!("{what} mapping: {reason}")));
    match given {
        [_, _, ..] => refuse(format!("only one mapping line supported, got {} mapping lines", given.len())),
        [one] if one.length < 1 => refuse(format!("invalid mapping length: {}", one.length)),
        given => Ok(mappings(given)),
    }
}

pub(crate) fn new(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace.set_path(None);
    namespace
}

pub(crate) fn joined(kind: LinuxNamespaceType, path: &Path) -> LinuxNamespace {
    let mut namespace = new(kind);
    namespace.set_path(Some(path.to_path_buf()));
    namespace
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext};

    use super::*;

    fn sandbox(options: NamespaceOption) -> PodSandboxConfig {
        let context = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let linux = LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() };
        PodSandboxConfig { linux: Some(linux), ..Default::default() }
    }

    fn container(options: NamespaceOption) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() }
    }

    fn paths() -> NamespacePaths {
        let at = |name: &str| PathBuf::from(format!("/ns/{name}"));
        let (net, ipc, uts) = (at("net"), at("ipc"), at("uts"));
        NamespacePaths { net, ipc, uts, pid: Some(at("pid")), user: Some(at("user")), target_pid: None }
    }

    fn listed(options: NamespaceOption) -> String {
        let (list, _) =
            of_container(&container(options.clone()), &sandbox(options), &paths(), &Host::default()).unwrap();
        let one = |namespace: &LinuxNamespace| {
            let path = namespace.path().as_ref().map_or("new".into(), |path| path.display().to_string());
            format!("{}={path}", namespace.typ())
        };
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn modes(network: NamespaceMode, pid: NamespaceMode, ipc: NamespaceMode) -> NamespaceOption {
        NamespaceOption { network: network.into(), pid: pid.into(), ipc: ipc.into(), ..Default::default() }
    }

    #[test]
    fn a_mode_says_whose_namespace_it_is() {
        use NamespaceMode::{Container, Node, Pod};
        assert_eq!(
            listed(modes(Pod, Container, Pod)),
            "mnt=new net=/ns/net ipc=/ns/ipc uts=/ns/uts pid=new cgroup=new"
        );
        assert_eq!(listed(modes(Node, Node, Node)), "mnt=new cgroup=new");
        assert_eq!(listed(modes(Node, Pod, Pod)), "mnt=new ipc=/ns/ipc pid=/ns/pid cgroup=new");
    }

    #[test]
    fn a_target_must_run() {
        let options = NamespaceOption {
            target_id: "abc".into(),
            ..modes(NamespaceMode::Pod, NamespaceMode::Target, NamespaceMode::Pod)
        };
        let pod = sandbox(modes(NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Pod));
        let error = of_container(&container(options), &pod, &paths(), &Host::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linux.security_context.namespace_options.pid: invalid target container: \"abc\" is not running"
        );
    }

    #[test]
    fn a_user_namespace_has_one_line_of_mappings_and_the_pods() {
        let line = IdMapping { host_id: 65_536, container_id: 0, length: 65_536 };
        let with = |mode: NamespaceMode, uids: Vec<IdMapping>, gids: Vec<IdMapping>| NamespaceOption {
            userns_options: Some(UserNamespace { mode: mode.into(), uids, gids }),
            ..modes(NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Pod)
        };
        let good = with(NamespaceMode::Pod, vec![line], vec![line]);
        assert!(listed(good.clone()).contains("user=/ns/user"));
        let reason = |options| sandbox_namespaces(&sandbox(options)).unwrap_err().reason;
        assert_eq!(
            reason(with(NamespaceMode::Pod, vec![line], vec![])),
            "can't use user namespace mode \"POD\" without UID and GID mappings"
        );
        assert!(reason(with(NamespaceMode::Node, vec![line], vec![])).contains("Got 1 UID mappings and 0 GID"));
        assert!(reason(with(NamespaceMode::Pod, vec![line, line], vec![line])).contains("only one mapping line"));
        let differs = of_container(&container(NamespaceOption::default()), &sandbox(good), &paths(), &Host::default());
        assert!(differs.unwrap_err().reason.contains("different from container"));
    }
}
