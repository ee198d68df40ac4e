//! Security contexts of pods and containers as the runtime takes them. Source: upstream's kuberuntime
//! security_context and pkg/securitycontext.
//!
//! Must not know: how the runtime enforces them.

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext};
use pintle_cri::v1::security_profile::ProfileType;
use pintle_cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, UserNamespace,
};

use super::{apparmor, pod};

/// What upstream masks and makes read-only unless `procMount` is `Unmasked`.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_SYS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Namespaces of the pod; `target` is the container an ephemeral container shares processes with.
pub fn namespaces(pod: &Pod, target: Option<&str>, users: UserNamespace) -> NamespaceOption {
    let spec = pod.spec.clone().unwrap_or_default();
    let mode = |host: Option<bool>| if host == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match target {
        Some(_) => NamespaceMode::Target,
        None if spec.host_pid == Some(true) => NamespaceMode::Node,
        None if spec.share_process_namespace == Some(true) => NamespaceMode::Pod,
        None => NamespaceMode::Container,
    };
    NamespaceOption {
        network: mode(spec.host_network).into(),
        ipc: mode(spec.host_ipc).into(),
        pid: pid.into(),
        target_id: target.unwrap_or_default().into(),
        userns_options: Some(users),
    }
}

/// The sandbox's context.
pub fn sandbox(pod: &Pod, seccomp_root: &str, users: UserNamespace) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None, users)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: context.run_as_user.map(|value| Int64Value { value }),
        run_as_group: context.run_as_group.map(|value| Int64Value { value }),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context).into(),
        privileged: any_privileged(pod),
        // the sandbox always has the runtime's own profile, as upstream decides
        seccomp: Some(seccomp(None, seccomp_root, ProfileType::RuntimeDefault)),
        ..LinuxSandboxSecurityContext::default()
    }
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default()
}

fn any_privileged(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers.iter().chain(pod::init_containers(spec)).any(is_privileged)
}

pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged).unwrap_or(false)
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    context.fs_group.into_iter().chain(context.supplemental_groups.clone().unwrap_or_default()).collect()
}

fn groups_policy(context: &PodSecurityContext) -> SupplementalGroupsPolicy {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, root: &str, default: ProfileType) -> SecurityProfile {
    let (kind, reference) = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
            (ProfileType::Localhost, format!("{root}/{file}"))
        }
        Some(_) => (ProfileType::Unconfined, String::new()),
        None => (default, String::new()),
    };
    SecurityProfile { profile_type: kind.into(), localhost_ref: reference }
}

/// Who the image says it runs as.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub username: String,
}

#[allow(deprecated, reason = "older runtimes read the AppArmor profile as a text")]
/// The container's context: its own fields over the pod's over the image's.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    seccomp_root: &str,
    default_seccomp: bool,
    target: Option<&str>,
    users: UserNamespace,
) -> LinuxContainerSecurityContext {
    let outer = pod_context(pod);
    let own = container.security_context.clone().unwrap_or_default();
    let asked = apparmor::asked(pod, container);
    let user = own.run_as_user.or(outer.run_as_user).or(image.uid);
    let privileged = own.privileged.unwrap_or(false);
    let profile = own.seccomp_profile.as_ref().or(outer.seccomp_profile.as_ref());
    let default = if default_seccomp { ProfileType::RuntimeDefault } else { ProfileType::Unconfined };
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    LinuxContainerSecurityContext {
        capabilities: capabilities(&own),
        privileged,
        namespace_options: Some(namespaces(pod, target, users)),
        selinux_options: own.se_linux_options.as_ref().or(outer.se_linux_options.as_ref()).map(selinux),
        run_as_user: user.map(|value| Int64Value { value }),
        run_as_username: if user.is_none() { image.username.clone() } else { String::new() },
        run_as_group: own.run_as_group.or(outer.run_as_group).map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&outer),
        supplemental_groups_policy: groups_policy(&outer).into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked {
            Vec::new()
        } else {
            MASKED.iter().chain(&MASKED_SYS).map(ToString::to_string).collect()
        },
        readonly_paths: if unmasked { Vec::new() } else { READ_ONLY.iter().map(ToString::to_string).collect() },
        seccomp: Some(seccomp(profile, seccomp_root, default)),
        apparmor: asked.profile,
        apparmor_profile: asked.text,
        ..LinuxContainerSecurityContext::default()
    }
}

fn capabilities(own: &SecurityContext) -> Option<Capability> {
    let capabilities = own.capabilities.clone()?;
    Some(Capability {
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    })
}

/// `runAsNonRoot` against the user the container would have: the text of a CreateContainerConfigError.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let outer = pod_context(pod);
    let own = container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(outer.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let which = format!("(pod: \"{}\", container: {})", pod::display(pod), container.name);
    match own.run_as_user.or(outer.run_as_user) {
        Some(0) => Err(format!("container's runAsUser breaks non-root policy {which}")),
        Some(_) => Ok(()),
        None if image.uid == Some(0) => Err(format!("container has runAsNonRoot and image will run as root {which}")),
        None if image.uid.is_some() => Ok(()),
        None if image.username.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {which}"))
        }
        None => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {which}",
            image.username
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn of(pod_level: &str, own: &str, image_uid: Option<i64>) -> (LinuxContainerSecurityContext, Result<(), String>) {
        let pod = pod(&format!(
            "  securityContext: {pod_level}\n  containers: [{{name: a, image: i, securityContext: {own}}}]\n"
        ));
        let one = &pod.spec.as_ref().unwrap().containers[0];
        let image = ImageUser { uid: image_uid, username: String::new() };
        (
            container(&pod, one, &image, "/seccomp", false, None, UserNamespace::default()),
            verify_non_root(&pod, one, &image),
        )
    }

    #[test]
    fn a_container_overrides_its_pod() {
        let (context, _) =
            of("{runAsUser: 1, runAsGroup: 2, fsGroup: 3, supplementalGroups: [4]}", "{runAsUser: 9}", Some(0));
        assert_eq!(context.run_as_user.unwrap().value, 9);
        assert_eq!(context.run_as_group.unwrap().value, 2);
        assert_eq!(context.supplemental_groups, [3, 4]);
    }

    #[test]
    fn non_root_is_verified_against_every_source_of_the_user() {
        assert!(of("{runAsNonRoot: true}", "{}", Some(0)).1.unwrap_err().contains("image will run as root"));
        assert!(of("{runAsNonRoot: true}", "{runAsUser: 0}", None).1.unwrap_err().contains("breaks non-root policy"));
        assert!(of("{runAsNonRoot: true}", "{runAsUser: 5}", Some(0)).1.is_ok());
    }

    #[test]
    fn profiles_and_masks() {
        let (context, _) = of("{seccompProfile: {type: Localhost, localhostProfile: p.json}}", "{}", None);
        assert_eq!(context.seccomp.unwrap().localhost_ref, "/seccomp/p.json");
        assert!(context.masked_paths.contains(&"/proc/kcore".to_string()));
        assert!(of("{}", "{privileged: true}", None).0.masked_paths.is_empty());
    }
}
