//! A pod's resolver settings and host name. Source: upstream's network/dns and GeneratePodHostNameAndDomain.
//!
//! Must not know: the node's files (its resolver settings are an argument).

use k8s_openapi::api::core::v1::{Pod, PodDNSConfigOption};
use pintle_cri::v1::DnsConfig;

use super::pod;

/// Upstream's limits: name servers, search paths, and their whole length.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LENGTH: usize = 2048;

/// The cluster's side of DNS.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    pub servers: Vec<String>,
    pub domain: String,
}

/// A `resolv.conf`, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// Reads a `resolv.conf`; unknown lines are skipped, the last `search` line counts.
pub fn parse_resolv_conf(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let words = words.map(str::to_string);
        match keyword {
            Some("nameserver") => resolver.servers.extend(words.take(1)),
            Some("search") => resolver.searches = words.map(|word| trim_dot(&word)).collect(),
            Some("options") => resolver.options = words.collect(),
            _ => {}
        }
    }
    resolver
}

fn trim_dot(name: &str) -> String {
    if name == "." { name.into() } else { name.trim_end_matches('.').into() }
}

/// The sandbox's DNS settings for the pod's policy.
pub fn config(pod: &Pod, cluster: &Cluster, node: &Resolver) -> DnsConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network.unwrap_or(false);
    let mut resolver = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolver::default(),
        "ClusterFirst" if !host_network && !cluster.servers.is_empty() => cluster_first(pod, cluster, node),
        "ClusterFirstWithHostNet" if !cluster.servers.is_empty() => cluster_first(pod, cluster, node),
        _ => node.clone(),
    };
    if let Some(own) = &spec.dns_config {
        merge(&mut resolver.servers, own.nameservers.as_deref().unwrap_or_default());
        merge(&mut resolver.searches, own.searches.as_deref().unwrap_or_default());
        resolver.options = merge_options(resolver.options, own.options.as_deref().unwrap_or_default());
    }
    limit(&mut resolver);
    DnsConfig { servers: resolver.servers, searches: resolver.searches, options: resolver.options }
}

fn cluster_first(pod: &Pod, cluster: &Cluster, node: &Resolver) -> Resolver {
    let domain = &cluster.domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{}.svc.{domain}", pod::namespace(pod)), format!("svc.{domain}"), domain.clone()];
    }
    merge(&mut searches, &node.searches);
    Resolver { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".into()] }
}

fn merge(into: &mut Vec<String>, more: &[String]) {
    for one in more {
        if !into.contains(one) {
            into.push(one.clone());
        }
    }
}

/// An option of the pod replaces one of the same name.
fn merge_options(mut options: Vec<String>, own: &[PodDNSConfigOption]) -> Vec<String> {
    for option in own {
        let name = option.name.clone().unwrap_or_default();
        options.retain(|known| known.split(':').next() != Some(name.as_str()));
        options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name,
        });
    }
    options
}

fn limit(resolver: &mut Resolver) {
    resolver.servers.truncate(MAX_SERVERS);
    resolver.searches.truncate(MAX_SEARCHES);
    while resolver.searches.join(" ").len() > MAX_SEARCH_LENGTH {
        resolver.searches.pop();
    }
}

/// The pod's host name (at most 63 bytes) and, with a subdomain, its domain.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(name) = spec.hostname_override.filter(|name| !name.is_empty()) {
        return (name, String::new());
    }
    let name = spec.hostname.filter(|name| !name.is_empty()).unwrap_or_else(|| pod::name(pod).into());
    let cut: String = name.chars().take(63).collect();
    let name = cut.trim_end_matches(['-', '.']).to_string();
    let domain = spec.subdomain.filter(|subdomain| !subdomain.is_empty());
    let domain = domain.map(|subdomain| format!("{subdomain}.{}.svc.{cluster_domain}", pod::namespace(pod)));
    (name, domain.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn of(spec: &str) -> String {
        let cluster = Cluster { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() };
        let node = parse_resolv_conf("nameserver 192.0.2.1\nsearch lan.\noptions edns0\n");
        let config = config(&pod(&format!("{spec}  containers: []\n")), &cluster, &node);
        format!("{} | {} | {}", config.servers.join(" "), config.searches.join(" "), config.options.join(" "))
    }

    #[test]
    fn policies() {
        assert_eq!(of(""), "10.96.0.10 | default.svc.cluster.local svc.cluster.local cluster.local lan | ndots:5");
        assert_eq!(of("  dnsPolicy: Default\n"), "192.0.2.1 | lan | edns0");
        assert_eq!(of("  hostNetwork: true\n"), "192.0.2.1 | lan | edns0");
        let own = "  dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1], searches: [a], options: [{name: ndots, value: '2'}]}\n";
        assert_eq!(of(own), "1.1.1.1 | a | ndots:2");
    }

    #[test]
    fn host_names() {
        let name = |spec: &str| hostname(&pod(&format!("{spec}  containers: []\n")), "cluster.local");
        assert_eq!(name(""), ("web".into(), String::new()));
        assert_eq!(name("  hostname: h\n  subdomain: s\n"), ("h".into(), "s.default.svc.cluster.local".into()));
    }
}
