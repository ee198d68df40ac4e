//! The settings of `pintle up`: flags over the configuration file over defaults; raw first, then resolved and checked.
//!
//! Must not know: how any part uses its settings.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use pintle_cri::CgroupDriver;
use pintle_cri::known::Known;
use serde::Deserialize;

use crate::cri::Choice;
use crate::units;

/// Where a configuration file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/pintle/config.yaml";

/// Every setting, as flags and as fields of the configuration file (camelCase, acronyms as Kubernetes writes them). A
/// flag wins over the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Where state is kept [default: /var/lib/pintle]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where sockets and other things that end with the machine are kept [default: /run/pintle]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Where the administrator's kubeconfig is written, readable by root alone [default: /etc/pintle/admin.kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The address other machines reach this one at [default: that of the default route]
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// The API server's port [default: 6443]
    #[arg(long, value_name = "PORT")]
    pub secure_port: Option<u16>,
    /// The kubelet's port [default: 10250]
    #[arg(long, value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// More names and addresses for the API server's certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub tls_san: Vec<String>,
    /// Pod addresses, a /22 of it for each node [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Option<String>,
    /// Service addresses [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR")]
    #[serde(rename = "serviceClusterIPRange")]
    pub service_cluster_ip_range: Option<String>,
    /// The cluster's DNS server, an address of the Services' [default: the tenth: 10.96.0.10]
    #[arg(long, value_name = "IP")]
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Ipv4Addr>,
    /// The cluster's DNS domain [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Ports for NodePort Services [default: 30000-32767]
    #[arg(long, value_name = "FROM-TO")]
    pub service_node_port_range: Option<String>,
    /// What runs containers: auto, embedded, containerd (one of Pintle's own), remote (the containerd or CRI-O that is
    /// there), or the socket of one [default: auto: the embedded runtime, where no containerRuntimeEndpoint is named]
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<String>,
    /// A CRI runtime that is there already, `unix:///run/crio/crio.sock`; or a containerd whose CRI is off,
    /// as Docker ships it, `containerd-native:///run/containerd/containerd.sock`
    #[arg(long, value_name = "SOCKET")]
    pub container_runtime_endpoint: Option<String>,
    /// Who makes the cgroups of pods and containers: cgroupfs or systemd. A runtime that is there already has its own
    /// [default: the KubeletConfiguration's cgroupDriver, else cgroupfs]
    #[arg(long, value_name = "DRIVER")]
    pub cgroup_driver: Option<String>,
    /// A KubeletConfiguration file for the settings of the kubelet that have no flag here
    #[arg(long, value_name = "FILE")]
    pub kubelet_config: Option<PathBuf>,
    /// A folder of static pods' manifests [default: /etc/kubernetes/manifests]
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// The kubelet's folder [default: /var/lib/kubelet]
    #[arg(long, value_name = "DIR")]
    pub kubelet_root_dir: Option<PathBuf>,
    /// Where CNI configuration is looked for, and written where there is none [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are looked for, after Pintle's own [default: /opt/cni/bin, then /usr/lib/cni]
    #[arg(long, value_name = "DIR")]
    pub cni_bin_dir: Option<PathBuf>,
}

/// Settings with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub node_name: String,
    pub advertise_address: IpAddr,
    pub secure_port: u16,
    pub kubelet_port: u16,
    pub tls_san: Vec<String>,
    pub cluster_cidr: String,
    pub service_cidr: String,
    /// The API server's own Service address: the first of the range.
    pub kubernetes_ip: Ipv4Addr,
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    pub node_ports: (u16, u16),
    pub runtime: Choice,
    pub cgroup_driver: Option<CgroupDriver>,
    pub kubelet_config: Option<PathBuf>,
    pub pod_manifest_path: PathBuf,
    pub kubelet_root_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dir: Option<PathBuf>,
}

/// What only the machine can tell.
pub struct Machine {
    pub host_name: String,
    pub address: Option<IpAddr>,
    /// The container runtimes that listen where their packages put them.
    pub runtimes: Vec<&'static Known>,
}

impl Settings {
    /// These settings over those of `file`; a missing file is an error only where it was named.
    pub fn over_file(self, file: Option<&Path>) -> anyhow::Result<Self> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(self);
        }
        let below: Self = serde_yaml_ng::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        Ok(self.over(below))
    }

    fn over(self, below: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            run_dir: self.run_dir.or(below.run_dir),
            kubeconfig: self.kubeconfig.or(below.kubeconfig),
            node_name: self.node_name.or(below.node_name),
            advertise_address: self.advertise_address.or(below.advertise_address),
            secure_port: self.secure_port.or(below.secure_port),
            kubelet_port: self.kubelet_port.or(below.kubelet_port),
            tls_san: if self.tls_san.is_empty() { below.tls_san } else { self.tls_san },
            cluster_cidr: self.cluster_cidr.or(below.cluster_cidr),
            service_cluster_ip_range: self.service_cluster_ip_range.or(below.service_cluster_ip_range),
            cluster_dns: self.cluster_dns.or(below.cluster_dns),
            cluster_domain: self.cluster_domain.or(below.cluster_domain),
            service_node_port_range: self.service_node_port_range.or(below.service_node_port_range),
            runtime: self.runtime.or(below.runtime),
            container_runtime_endpoint: self.container_runtime_endpoint.or(below.container_runtime_endpoint),
            cgroup_driver: self.cgroup_driver.or(below.cgroup_driver),
            kubelet_config: self.kubelet_config.or(below.kubelet_config),
            pod_manifest_path: self.pod_manifest_path.or(below.pod_manifest_path),
            kubelet_root_dir: self.kubelet_root_dir.or(below.kubelet_root_dir),
            cni_conf_dir: self.cni_conf_dir.or(below.cni_conf_dir),
            cni_bin_dir: self.cni_bin_dir.or(below.cni_bin_dir),
        }
    }

    /// Fills in the defaults and checks every value.
    pub fn resolve(self, machine: &Machine) -> anyhow::Result<Config> {
        let path = |given: Option<PathBuf>, default: &str| given.unwrap_or_else(|| default.into());
        let service_cidr = self.service_cluster_ip_range.unwrap_or_else(|| "10.96.0.0/12".into());
        let cluster_cidr = self.cluster_cidr.unwrap_or_else(|| "10.244.0.0/16".into());
        let services = Cidr::parse("serviceClusterIPRange", &service_cidr, 8..=28)?;
        let pods = Cidr::parse("clusterCIDR", &cluster_cidr, 8..=22)?;
        anyhow::ensure!(
            !services.overlaps(&pods),
            "serviceClusterIPRange: {service_cidr} overlaps clusterCIDR {cluster_cidr}"
        );
        let cluster_dns = self.cluster_dns.unwrap_or_else(|| services.nth(10));
        anyhow::ensure!(services.contains(cluster_dns), "clusterDNS: {cluster_dns} is not in {service_cidr}");
        let node_name = self.node_name.unwrap_or_else(|| machine.host_name.to_lowercase());
        check_name("nodeName", &node_name)?;
        Ok(Config {
            data_dir: path(self.data_dir, "/var/lib/pintle"),
            run_dir: path(self.run_dir, "/run/pintle"),
            kubeconfig: path(self.kubeconfig, "/etc/pintle/admin.kubeconfig"),
            node_name,
            advertise_address: self
                .advertise_address
                .or(machine.address)
                .context("advertiseAddress: this machine has no address of its own yet: name one")?,
            secure_port: port("securePort", self.secure_port, 6443)?,
            kubelet_port: port("kubeletPort", self.kubelet_port, 10250)?,
            tls_san: self.tls_san,
            kubernetes_ip: services.nth(1),
            cluster_cidr,
            service_cidr,
            cluster_dns,
            cluster_domain: self.cluster_domain.unwrap_or_else(|| "cluster.local".into()),
            node_ports: node_ports(self.service_node_port_range.as_deref().unwrap_or("30000-32767"))?,
            runtime: Choice::parse(self.runtime, self.container_runtime_endpoint, &machine.runtimes)?,
            cgroup_driver: self.cgroup_driver.as_deref().map(cgroup_driver).transpose()?,
            kubelet_config: self.kubelet_config,
            pod_manifest_path: path(self.pod_manifest_path, "/etc/kubernetes/manifests"),
            kubelet_root_dir: path(self.kubelet_root_dir, "/var/lib/kubelet"),
            cni_conf_dir: path(self.cni_conf_dir, "/etc/cni/net.d"),
            cni_bin_dir: self.cni_bin_dir,
        })
    }
}

fn port(field: &str, given: Option<u16>, default: u16) -> anyhow::Result<u16> {
    let port = given.unwrap_or(default);
    anyhow::ensure!(port != 0, "{field}: 0 is not a port to be reached at");
    Ok(port)
}

fn cgroup_driver(name: &str) -> anyhow::Result<CgroupDriver> {
    units::driver(name).map_err(|why| anyhow::anyhow!("cgroupDriver: {why}"))
}

fn node_ports(text: &str) -> anyhow::Result<(u16, u16)> {
    let range = text.split_once('-').and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    let (from, to) = range.with_context(|| format!("serviceNodePortRange: {text:?} is not FROM-TO"))?;
    anyhow::ensure!(0 < from && from <= to, "serviceNodePortRange: {text:?} is empty");
    Ok((from, to))
}

/// A DNS-1123 subdomain.
fn check_name(field: &str, name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |it: &str| it.starts_with(plain) && it.ends_with(plain) && it.chars().all(|c| plain(c) || c == '-');
    let fine = name.len() <= 253 && name.split('.').all(label);
    anyhow::ensure!(
        fine,
        "{field}: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
         '.', and must start and end with an alphanumeric character"
    );
    Ok(())
}

/// An IPv4 network.
struct Cidr {
    base: u32,
    bits: u8,
}

impl Cidr {
    fn parse(field: &str, text: &str, bits: std::ops::RangeInclusive<u8>) -> anyhow::Result<Self> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            Some((address.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok().filter(|length| *length <= 32)?))
        });
        let (address, length) = parsed.with_context(|| format!("{field}: {text:?} is not an IPv4 CIDR"))?;
        let (least, most) = (bits.start(), bits.end());
        anyhow::ensure!(bits.contains(&length), "{field}: {text}: the prefix must be from /{least} to /{most}");
        let network = Self { base: u32::from(address), bits: length };
        anyhow::ensure!(network.base & !network.mask() == 0, "{field}: {text}: has bits set behind its prefix");
        Ok(network)
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + n)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.base
    }

    fn overlaps(&self, other: &Self) -> bool {
        let mask = self.mask() & other.mask();
        self.base & mask == other.base & mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { host_name: "Box-1".into(), address: Some(IpAddr::from([192, 0, 2, 2])), runtimes: Vec::new() }
    }

    fn refused(settings: Settings) -> String {
        settings.resolve(&machine()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let config = Settings::default().resolve(&machine()).unwrap();
        assert_eq!((config.secure_port, config.kubelet_port), (6443, 10250));
        assert_eq!(config.node_name, "box-1");
        assert_eq!(config.cluster_dns, Ipv4Addr::new(10, 96, 0, 10));
        assert_eq!(config.kubernetes_ip, Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(config.node_ports, (30000, 32767));
    }

    #[test]
    fn a_bad_value_is_named_with_its_field() {
        let cidr = |cidr: &str| Settings { cluster_cidr: Some(cidr.into()), ..Settings::default() };
        assert_eq!(refused(cidr("10.244.0.0")), r#"clusterCIDR: "10.244.0.0" is not an IPv4 CIDR"#);
        assert_eq!(refused(cidr("10.244.0.1/16")), "clusterCIDR: 10.244.0.1/16: has bits set behind its prefix");
        assert_eq!(
            refused(cidr("10.96.0.0/16")),
            "serviceClusterIPRange: 10.96.0.0/12 overlaps clusterCIDR 10.96.0.0/16"
        );
        let ports = Settings { service_node_port_range: Some("9-1".into()), ..Settings::default() };
        assert_eq!(refused(ports), r#"serviceNodePortRange: "9-1" is empty"#);
        let driver = Settings { cgroup_driver: Some("cgroups".into()), ..Settings::default() };
        assert_eq!(refused(driver), r#"cgroupDriver: "cgroups" is neither "cgroupfs" nor "systemd""#);
    }

    #[test]
    fn flags_win_over_the_file_and_unknown_fields_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "securePort: 7000\nkubeletPort: 7001\nclusterCIDR: 10.0.0.0/16\nclusterDNS: 10.96.0.9\nserviceClusterIPRange: 10.96.0.0/16\n").unwrap();
        let flags = Settings { secure_port: Some(8000), ..Settings::default() };
        let settings = flags.over_file(Some(&file)).unwrap();
        assert_eq!((settings.secure_port, settings.kubelet_port), (Some(8000), Some(7001)));
        assert_eq!(settings.cluster_dns, Some(Ipv4Addr::new(10, 96, 0, 9)));
        assert_eq!(settings.cluster_cidr.as_deref(), Some("10.0.0.0/16"));
        assert_eq!(settings.service_cluster_ip_range.as_deref(), Some("10.96.0.0/16"));

        std::fs::write(&file, "securPort: 7000\n").unwrap();
        let error = format!("{:#}", Settings::default().over_file(Some(&file)).unwrap_err());
        assert!(error.contains("config.yaml") && error.contains("securPort"), "{error}");
    }
}
