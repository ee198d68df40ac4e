//! A pod's sandbox configuration, with upstream's label names.
//!
//! Must not know: the runtime's answer.

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use pintle_cri::v1::{
    DnsConfig, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, UserNamespace,
};

use super::pod;
use super::security;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// What the node adds to the spec.
pub struct Settings<'a> {
    pub attempt: u32,
    pub log_directory: String,
    pub cgroup_parent: String,
    pub hostname: String,
    pub dns: DnsConfig,
    pub seccomp_root: &'a str,
    pub users: UserNamespace,
}

pub fn config(pod: &Pod, settings: Settings<'_>) -> PodSandboxConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(POD_NAME.into(), pod::name(pod).into());
    labels.insert(POD_NAMESPACE.into(), pod::namespace(pod).into());
    labels.insert(POD_UID.into(), pod::uid(pod).into());
    let host_network = spec.host_network.unwrap_or(false);
    let sysctls = spec.security_context.and_then(|context| context.sysctls).unwrap_or_default();
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod::name(pod).into(),
            namespace: pod::namespace(pod).into(),
            uid: pod::uid(pod).into(),
            attempt: settings.attempt,
        }),
        hostname: if host_network { String::new() } else { settings.hostname },
        log_directory: settings.log_directory,
        dns_config: Some(settings.dns),
        port_mappings: spec.containers.iter().flat_map(|one| one.ports.iter().flatten()).filter_map(port).collect(),
        labels: labels.into_iter().collect(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: settings.cgroup_parent,
            security_context: Some(security::sandbox(pod, settings.seccomp_root, settings.users)),
            sysctls: sysctls.into_iter().map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value)).collect(),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// The users of the pod, which its containers share.
pub fn users(config: &PodSandboxConfig) -> UserNamespace {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.as_ref());
    options.and_then(|options| options.userns_options.clone()).unwrap_or_default()
}

fn port(port: &ContainerPort) -> Option<PortMapping> {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Some(PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port?,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}

/// `<namespace>_<name>_<uid>` under the pod log root.
pub fn log_directory_name(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}_{name}_{uid}")
}
