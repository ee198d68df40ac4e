//! Settings: upstream's KubeProxyConfiguration as far as it has an effect here, and what the proxy runs with.
//!
//! Must not know: files and flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::plan::element::Range;
use crate::range::parse_range;

/// `kubeproxy.config.k8s.io/v1alpha1`, the fields that change something.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyConfiguration {
    /// Empty or `nftables`.
    pub mode: String,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub hostname_override: String,
    pub healthz_bind_address: Option<String>,
    pub metrics_bind_address: Option<String>,
    /// Empty or `["primary"]`: the node's InternalIPs; else CIDRs.
    pub node_port_addresses: Vec<String>,
    pub nftables: NfTables,
    /// Everything else.
    #[serde(flatten)]
    pub ignored: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NfTables {
    pub masquerade_all: bool,
}

/// What the proxy runs with.
#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// The pods' ranges, comma-separated, at most one per family, as upstream's `clusterCIDR`; may be empty.
    pub cluster_cidr: String,
    /// Where Services' addresses come from, comma-separated, while no ServiceCIDR object says; may be empty.
    pub service_cidr: String,
    /// Serve DNS at this cluster IP; None when something else does.
    pub cluster_dns: Option<IpAddr>,
    pub cluster_domain: String,
    /// Where names outside the cluster are resolved.
    pub resolv_conf: PathBuf,
    pub healthz_bind_address: Option<SocketAddr>,
    pub metrics_bind_address: Option<SocketAddr>,
    pub node_port_addresses: Vec<String>,
    pub masquerade_all: bool,
    /// How often the kernel's table is compared with what it should hold.
    pub sync_period: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            cluster_cidr: String::new(),
            service_cidr: String::new(),
            cluster_dns: None,
            cluster_domain: "cluster.local".to_string(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            healthz_bind_address: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
            metrics_bind_address: Some(SocketAddr::from(([127, 0, 0, 1], 10249))),
            node_port_addresses: Vec::new(),
            masquerade_all: false,
            sync_period: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The settings with those of `raw` over them. An empty bind address turns the listener off. Errors name the field.
    pub fn with(mut self, raw: KubeProxyConfiguration) -> anyhow::Result<Self> {
        anyhow::ensure!(matches!(raw.mode.as_str(), "" | "nftables"), "mode: {:?} is not nftables", raw.mode);
        for field in raw.ignored.keys().filter(|field| *field != "apiVersion" && *field != "kind") {
            tracing::warn!("KubeProxyConfiguration: {field} has no effect");
        }
        if !raw.cluster_cidr.is_empty() {
            self.cluster_cidr = raw.cluster_cidr;
        }
        if !raw.hostname_override.is_empty() {
            self.node_name = raw.hostname_override;
        }
        if let Some(address) = &raw.healthz_bind_address {
            self.healthz_bind_address = bind_address("healthzBindAddress", address, 10256)?;
        }
        if let Some(address) = &raw.metrics_bind_address {
            self.metrics_bind_address = bind_address("metricsBindAddress", address, 10249)?;
        }
        self.node_port_addresses = raw.node_port_addresses;
        self.masquerade_all |= raw.nftables.masquerade_all;
        self.node_port_ranges().map(|_| self)
    }

    /// The pods' ranges.
    pub fn cluster_ranges(&self) -> anyhow::Result<Vec<Range>> {
        ranges("clusterCIDR", &self.cluster_cidr)
    }

    /// The Services' ranges.
    pub fn service_ranges(&self) -> anyhow::Result<Vec<Range>> {
        ranges("serviceClusterIPRange", &self.service_cidr)
    }

    /// The ranges of addresses that accept node ports; None means the node's primary addresses, upstream's default in
    /// mode nftables.
    pub fn node_port_ranges(&self) -> anyhow::Result<Option<Vec<Range>>> {
        if matches!(self.node_port_addresses.as_slice(), [] | [_])
            && self.node_port_addresses.iter().all(|a| a == "primary")
        {
            return Ok(None);
        }
        let parse = |part: &String| {
            parse_range(part)
                .with_context(|| format!("nodePortAddresses: {part:?} is neither a CIDR nor alone \"primary\""))
        };
        self.node_port_addresses.iter().map(parse).collect::<anyhow::Result<_>>().map(Some)
    }
}

fn ranges(field: &str, text: &str) -> anyhow::Result<Vec<Range>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| parse_range(part).with_context(|| format!("{field}: {part:?} is no CIDR"))).collect()
}

/// An address with a port or, as upstream allows, without.
fn bind_address(field: &str, text: &str, port: u16) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, port)));
    parsed.map(Some).with_context(|| format!("{field}: {text:?} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: serde_json::Value) -> anyhow::Result<Config> {
        Config::default().with(serde_json::from_value(json)?)
    }

    #[test]
    fn upstreams_fields_are_taken() {
        let config = with(serde_json::json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
            "clusterCIDR": "10.244.0.0/16,fd10::/56", "healthzBindAddress": "127.0.0.1", "metricsBindAddress": "",
            "nodePortAddresses": ["192.168.0.0/16"], "nftables": {"masqueradeAll": true}}))
        .expect("a configuration");
        assert_eq!(config.cluster_ranges().expect("ranges").len(), 2);
        assert_eq!(config.healthz_bind_address, "127.0.0.1:10256".parse().ok());
        assert_eq!(config.metrics_bind_address, None);
        assert!(config.masquerade_all && config.node_port_ranges().expect("ranges").is_some());
    }

    #[test]
    fn errors_name_the_field() {
        let error = with(serde_json::json!({"mode": "ipvs"})).expect_err("no such mode");
        assert_eq!(error.to_string(), "mode: \"ipvs\" is not nftables");
        let error = with(serde_json::json!({"nodePortAddresses": ["10.0.0.1"]})).expect_err("no CIDR");
        assert!(error.to_string().starts_with("nodePortAddresses: "));
    }
}
