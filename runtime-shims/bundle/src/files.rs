//! The files that a pod's containers share: `/etc/resolv.conf`, `/etc/hostname`.
//!
//! Must not know: where they are kept. (`/etc/hosts` is a copy of the host's: the kubelet mounts its own over it.)

use pintle_cri::v1::{DnsConfig, PodSandboxConfig};

use crate::{Host, Invalid};

/// Text of `/etc/resolv.conf`: searches, servers, options, as containerd writes it. Without a DNS configuration the
/// host's own text is the pod's.
///
/// # Errors
/// An entry with white space or a line break in it, which would read as another.
pub fn resolv_conf(config: &DnsConfig) -> Result<String, Invalid> {
    let lists = [("servers", &config.servers), ("searches", &config.searches), ("options", &config.options)];
    for (name, list) in lists {
        if let Some(entry) = list.iter().find(|entry| entry.contains(char::is_whitespace) || entry.contains('\0')) {
            return Err(Invalid::new(format!("dns_config.{name}"), format!("{entry:?} is not one word")));
        }
    }
    let mut text = String::new();
    if !config.searches.is_empty() {
        text.push_str(&format!("search {}\n", config.searches.join(" ")));
    }
    config.servers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    if !config.options.is_empty() {
        text.push_str(&format!("options {}\n", config.options.join(" ")));
    }
    Ok(text)
}

/// Name of a pod's machine: its own, or the host's when it has none (pods of the host's network).
pub fn hostname<'a>(config: &'a PodSandboxConfig, host: &'a Host) -> &'a str {
    if config.hostname.is_empty() { &host.hostname } else { &config.hostname }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_its_lines_in_order() {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut config = DnsConfig {
            servers: own(&["10.96.0.10", "8.8.8.8"]),
            searches: own(&["default.svc.cluster.local", "svc.cluster.local"]),
            options: own(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&config).unwrap(),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 8.8.8.8\noptions ndots:5\n"
        );
        config.servers.push("1.1.1.1\nsearch evil".into());
        assert!(resolv_conf(&config).unwrap_err().to_string().starts_with("dns_config.servers: "));
        assert_eq!(resolv_conf(&DnsConfig::default()).unwrap(), "");
    }
}
