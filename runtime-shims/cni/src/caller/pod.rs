//! What a runtime says of a pod when it wants it attached, as plugins are told it: capability arguments and `CNI_ARGS`.
//!
//! Names and units: CNI's conventions for `runtimeConfig`. Must not know: which plugins there are.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use pintle_api::quantity::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The one interface that a pod gets.
pub const INTERFACE: &str = "eth0";

/// A pod sandbox to attach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// The sandbox's: the container id of CNI.
    pub id: String,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// Where its network namespace is mounted.
    pub netns: PathBuf,
    pub capabilities: Capabilities,
}

/// What a plugin gets only when its configuration declares that it wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    pub port_mappings: Vec<PortMapping>,
    pub bandwidth: Option<Bandwidth>,
    pub dns: Option<Dns>,
    /// Addresses that are asked for, with or without a prefix length.
    pub ips: Vec<String>,
    pub mac: Option<String>,
    pub aliases: Vec<String>,
    pub cgroup_path: Option<String>,
    /// The pod's annotations; what containerd calls the capability.
    pub annotations: BTreeMap<String, String>,
}

/// A hostPort. (containerd writes the names with a capital; Go's decoder does not mind.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`; any case, and empty is tcp.
    #[serde(alias = "Protocol")]
    pub protocol: String,
    /// Only on this address of the host; empty for all.
    #[serde(rename = "hostIP", alias = "HostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

/// Rates in bits per second, bursts in bits; 0 is no limit. Ingress is what the pod receives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    #[serde(alias = "IngressRate")]
    pub ingress_rate: u64,
    #[serde(alias = "IngressBurst")]
    pub ingress_burst: u64,
    #[serde(alias = "EgressRate")]
    pub egress_rate: u64,
    #[serde(alias = "EgressBurst")]
    pub egress_burst: u64,
}

impl Bandwidth {
    /// The burst that runtimes give where, as in Kubernetes' annotations, only a rate is known.
    pub const BURST: u64 = i32::MAX as u64;

    /// What a pod's annotations ask for; none where they ask for nothing. Source: containerd's `toCNIBandWidth`.
    ///
    /// # Errors
    /// An annotation is no quantity, or beyond what upstream takes for a rate.
    pub fn asked(annotations: &HashMap<String, String>) -> Result<Option<Self>, String> {
        let rate = |direction: &str| {
            let name = format!("kubernetes.io/{direction}-bandwidth");
            annotations.get(&name).map_or(Ok(0), |text| bits(text).map_err(|why| format!("{name}: {why}")))
        };
        let (ingress_rate, egress_rate) = (rate("ingress")?, rate("egress")?);
        let burst = |rate| if rate > 0 { Self::BURST } else { 0 };
        let all =
            Self { ingress_rate, ingress_burst: burst(ingress_rate), egress_rate, egress_burst: burst(egress_rate) };
        Ok(Some(all).filter(|all| *all != Self::default()))
    }
}

/// Bits per second.
fn bits(text: &str) -> Result<u64, String> {
    let rate = text.parse::<Quantity>().map_err(|error| error.to_string())?.value();
    match u64::try_from(rate) {
        Ok(rate @ 1_000..=1_000_000_000_000_000) => Ok(rate),
        Ok(1_000..) => Err("resource is unreasonably large (> 1Pbit)".into()),
        _ => Err("resource is unreasonably small (< 1kbit)".into()),
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Pod {
    /// `CNI_ARGS`, as Kubernetes' runtimes set them.
    pub(crate) fn arguments(&self) -> String {
        let Self { id, name, namespace, uid, .. } = self;
        let named = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", namespace),
            ("K8S_POD_NAME", name),
            ("K8S_POD_INFRA_CONTAINER_ID", id),
            ("K8S_POD_UID", uid),
        ];
        named.map(|(name, value)| format!("{name}={value}")).join(";")
    }
}

impl Capabilities {
    /// Those that there are, by the capability's name.
    pub(crate) fn by_name(&self) -> Map<String, Value> {
        let dns = self.dns.as_ref();
        let ports: Vec<_> =
            self.port_mappings.iter().filter(|port| port.host_port > 0).map(PortMapping::told).collect();
        let all = [
            ("portMappings", (!ports.is_empty()).then(|| json!(ports))),
            ("bandwidth", self.bandwidth.as_ref().map(|it| json!(it))),
            ("dns", dns.map(|it| json!(it))),
            ("ips", (!self.ips.is_empty()).then(|| json!(self.ips))),
            ("mac", self.mac.as_ref().map(|it| json!(it))),
            ("aliases", (!self.aliases.is_empty()).then(|| json!(self.aliases))),
            ("cgroupPath", self.cgroup_path.as_ref().map(|it| json!(it))),
            ("io.kubernetes.cri.pod-annotations", (!self.annotations.is_empty()).then(|| json!(self.annotations))),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

impl PortMapping {
    /// Plugins expect the protocol in small letters, and there.
    fn told(&self) -> Self {
        let protocol = if self.protocol.is_empty() { "tcp".into() } else { self.protocol.to_lowercase() };
        Self { protocol, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_annotations_bound_its_bandwidth() {
        let of = |pairs: &[(&str, &str)]| {
            let name = |direction: &&str| format!("kubernetes.io/{direction}-bandwidth");
            Bandwidth::asked(&pairs.iter().map(|(direction, rate)| (name(direction), (*rate).to_owned())).collect())
        };
        assert_eq!(of(&[]), Ok(None));
        let ingress = Bandwidth { ingress_rate: 10_000_000, ingress_burst: Bandwidth::BURST, ..Bandwidth::default() };
        assert_eq!(of(&[("ingress", "10M")]), Ok(Some(ingress)));
        assert_eq!(of(&[("egress", "1Ki"), ("ingress", "1k")]).unwrap().unwrap().egress_rate, 1024);
        assert!(of(&[("egress", "10")]).unwrap_err().contains("egress-bandwidth: resource is unreasonably small"));
        assert!(of(&[("egress", "2P")]).unwrap_err().contains("unreasonably large"));
        assert!(of(&[("egress", "fast")]).unwrap_err().contains("quantities must match"));
    }

    #[test]
    fn arguments_are_those_of_kubernetes_runtimes() {
        let pod =
            Pod { id: "a1".into(), name: "web-0".into(), namespace: "shop".into(), uid: "u".into(), ..Pod::default() };
        assert_eq!(
            pod.arguments(),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=a1;K8S_POD_UID=u"
        );
    }

    #[test]
    fn capabilities_are_named_as_the_conventions_say_and_absent_when_not_asked_for() {
        assert!(Capabilities::default().by_name().is_empty());
        let mapping = |host_port, protocol: &str| PortMapping {
            host_port,
            container_port: 80,
            protocol: protocol.into(),
            host_ip: String::new(),
        };
        let asked = Capabilities {
            port_mappings: vec![mapping(8080, "TCP"), mapping(0, "TCP"), mapping(53, "UDP")],
            bandwidth: Some(Bandwidth { ingress_rate: 1000, ingress_burst: 5, ..Bandwidth::default() }),
            cgroup_path: Some("/kubepods/p".into()),
            annotations: [("team".to_owned(), "shop".to_owned())].into(),
            ..Capabilities::default()
        };
        let expected = json!({
            "portMappings": [
                { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
                { "hostPort": 53, "containerPort": 80, "protocol": "udp" },
            ],
            "bandwidth": { "ingressRate": 1000, "ingressBurst": 5, "egressRate": 0, "egressBurst": 0 },
            "cgroupPath": "/kubepods/p",
            "io.kubernetes.cri.pod-annotations": { "team": "shop" },
        });
        assert_eq!(Value::Object(asked.by_name()), expected);
    }
}
