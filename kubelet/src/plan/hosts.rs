//! The text of a pod's managed `/etc/hosts`. Source: upstream's managedHostsFileContent.
//!
//! Must not know: where the file is.

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

/// A pod with its own network: loopback names, its addresses, its aliases.
pub fn managed(ips: &[String], hostname: &str, domain: &str, spec: &PodSpec) -> String {
    let mut text = String::from("# Kubernetes-managed hosts file.\n");
    for (address, names) in [
        ("127.0.0.1", "localhost"),
        ("::1", "localhost ip6-localhost ip6-loopback"),
        ("fe00::0", "ip6-localnet"),
        ("fe00::0", "ip6-mcastprefix"),
        ("fe00::1", "ip6-allnodes"),
        ("fe00::2", "ip6-allrouters"),
    ] {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    for ip in ips {
        let line = if domain.is_empty() {
            format!("{ip}\t{hostname}\n")
        } else {
            format!("{ip}\t{hostname}.{domain}\t{hostname}\n")
        };
        text.push_str(&line);
    }
    text.push_str(&aliases(spec.host_aliases.as_deref().unwrap_or_default()));
    text
}

/// A pod on the host's network: the node's file and the pod's aliases.
pub fn from_node(node_file: &str, spec: &PodSpec) -> String {
    let head = "# Kubernetes-managed hosts file (host network).\n";
    format!("{head}{node_file}{}", aliases(spec.host_aliases.as_deref().unwrap_or_default()))
}

fn aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let line =
        |alias: &HostAlias| format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    let lines: String = aliases.iter().map(line).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}
