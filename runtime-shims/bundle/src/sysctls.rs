//! Kernel parameters of a sandbox's namespaces.
//!
//! Must not know: how they are set.

use std::collections::BTreeMap;

use pintle_cri::v1::PodSandboxConfig;

use crate::namespaces::sandbox_namespaces;
use crate::{Host, Invalid};

/// The parameters to set in a new sandbox, by name (`net.ipv4.ip_forward`), with what the runtime itself adds.
///
/// # Errors
/// A parameter of no namespace, or of one that the sandbox shares with the host.
pub fn sandbox_sysctls(config: &PodSandboxConfig, host: &Host) -> Result<BTreeMap<String, String>, Invalid> {
    let namespaces = sandbox_namespaces(config)?;
    let given = config.linux.iter().flat_map(|linux| &linux.sysctls);
    let mut sysctls = BTreeMap::new();
    for (name, value) in given {
        let dotted = name.replace('/', ".");
        check(name, &dotted, namespaces.net, namespaces.ipc)?;
        sysctls.insert(dotted, value.clone());
    }
    if namespaces.net && host.unprivileged_ports {
        sysctls.entry("net.ipv4.ip_unprivileged_port_start".into()).or_insert_with(|| "0".into());
    }
    if namespaces.net && host.unprivileged_icmp && namespaces.user.is_none() {
        sysctls.entry("net.ipv4.ping_group_range".into()).or_insert_with(|| "0 2147483647".into());
    }
    Ok(sysctls)
}

fn check(name: &str, dotted: &str, own_net: bool, own_ipc: bool) -> Result<(), Invalid> {
    let refuse = |reason: String| Err(Invalid::new("linux.sysctls", reason));
    match kind(dotted) {
        Some("network") if !own_net => refuse(format!("sysctl {name:?} not allowed with host net enabled")),
        Some("ipc") if !own_ipc => refuse(format!("sysctl {name:?} not allowed with host ipc enabled")),
        Some(_) => Ok(()),
        None => refuse(format!("sysctl {name:?} is not in a separate kernel namespace")),
    }
}

/// Which namespace a parameter belongs to.
fn kind(name: &str) -> Option<&'static str> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    if name.split('.').any(str::is_empty) {
        return None;
    }
    if name.starts_with("net.") {
        return Some("network");
    }
    (IPC.contains(&name) || name.starts_with("fs.mqueue.")).then_some("ipc")
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption};

    use super::*;

    fn of(name: &str, host_network: bool) -> Result<BTreeMap<String, String>, String> {
        let network = if host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
        let options = NamespaceOption { network: network.into(), ..Default::default() };
        let context = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let sysctls = [(name.to_owned(), "1".to_owned())].into();
        let linux = LinuxPodSandboxConfig { sysctls, security_context: Some(context), ..Default::default() };
        let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        sandbox_sysctls(&config, &Host { unprivileged_ports: true, ..Host::default() }).map_err(|error| error.reason)
    }

    #[test]
    fn a_parameter_belongs_to_a_namespace_of_the_pod() {
        let got = of("net/ipv4/ip_forward", false).unwrap();
        assert_eq!(got["net.ipv4.ip_forward"], "1");
        assert_eq!(got["net.ipv4.ip_unprivileged_port_start"], "0");
        assert_eq!(of("kernel.shm_rmid_forced", true).unwrap().len(), 1);
        assert!(of("net.core.somaxconn", true).unwrap_err().contains("host net"));
        for name in ["kernel.panic", "vm.swappiness", "net..x", "fs.file-max"] {
            assert!(of(name, false).unwrap_err().contains("not in a separate kernel namespace"), "{name}");
        }
    }

    #[test]
    fn what_the_pod_says_comes_before_the_runtimes_own() {
        assert_eq!(
            of("net.ipv4.ip_unprivileged_port_start", false).unwrap()["net.ipv4.ip_unprivileged_port_start"],
            "1"
        );
    }
}
