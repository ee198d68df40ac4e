//! What a runtime asks: its environment variables and the network configuration on stdin, checked.
//!
//! Must not know: how it is carried out.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{CniError, Code, Context, Result};

/// Versions of the CNI specification spoken here.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const LONGEST_INTERFACE_NAME: usize = 15;

/// The network configuration. What other plugins of a chain may carry is ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    #[serde(default = "oldest")]
    pub cni_version: String,
    #[serde(default)]
    pub name: String,
    #[serde(rename = "type", default)]
    pub plugin: String,
    #[serde(default = "default_bridge")]
    pub bridge: String,
    /// The node's pod CIDR, IPv4; its first address is the bridge's.
    #[serde(rename = "podCIDR", default)]
    pub pod_cidr: String,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// For GC: the attachments that still exist.
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub valid_attachments: Vec<Attachment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container: String,
    pub ifname: String,
}

fn oldest() -> String {
    VERSIONS[0].into()
}

fn default_bridge() -> String {
    crate::conf::BRIDGE.into()
}

fn default_data_dir() -> PathBuf {
    "/var/lib/pintle/cni".into()
}

fn default_mtu() -> u32 {
    1500
}

impl Conf {
    pub fn parse(stdin: &[u8]) -> Result<Self> {
        let network: Self =
            serde_json::from_slice(stdin).context(Code::Decoding, || "the network configuration is broken".into())?;
        if !VERSIONS.contains(&network.cni_version.as_str()) {
            let message = format!("CNI version {} is not spoken here", network.cni_version);
            return Err(CniError::new(Code::IncompatibleVersion, message));
        }
        // It names a directory.
        if network.name.contains('/') || network.name.starts_with('.') {
            return Err(CniError::new(Code::InvalidConfig, format!("{:?} is no network name", network.name)));
        }
        check_interface(&network.bridge, Code::InvalidConfig)?;
        Ok(network)
    }

    /// # Errors
    /// `podCIDR` is missing, no IPv4 CIDR, or too small for a gateway and a pod.
    pub fn range(&self) -> Result<Range> {
        let broken = || CniError::new(Code::InvalidConfig, format!("{:?} is no IPv4 pod CIDR", self.pod_cidr));
        let (address, length) = self.pod_cidr.split_once('/').ok_or_else(broken)?;
        let address: Ipv4Addr = address.parse().map_err(|_| broken())?;
        let length: u8 = length.parse().map_err(|_| broken())?;
        if !(8..=30).contains(&length) {
            return Err(broken());
        }
        Ok(Range { base: u32::from(address) & (u32::MAX << (32 - length)), length })
    }
}

/// An IPv4 CIDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: u32,
    pub length: u8,
}

impl Range {
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// How many addresses pods can have: all but the network's, the gateway's and the broadcast's.
    pub fn size(self) -> u32 {
        (1 << (32 - self.length)) - 3
    }

    /// The `n`-th address for pods, wrapping around.
    pub fn address(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 2 + n % self.size())
    }

    /// The inverse of [`Range::address`]; `None` for what no pod may have.
    pub fn position(self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address).checked_sub(self.base + 2).filter(|n| *n < self.size())
    }
}

/// Which interface of which container, from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub attachment: Attachment,
    /// Absent in a DEL for a namespace that is gone.
    pub netns: Option<PathBuf>,
}

impl Target {
    pub fn read(env: &HashMap<String, String>) -> Result<Self> {
        let text = |name: &str| env.get(name).map(String::as_str).unwrap_or_default();
        let (container, ifname) = (text("CNI_CONTAINERID"), text("CNI_IFNAME"));
        check_container(container)?;
        check_interface(ifname, Code::InvalidEnvironment)?;
        let attachment = Attachment { container: container.into(), ifname: ifname.into() };
        let netns = Some(text("CNI_NETNS")).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self { attachment, netns })
    }

    pub fn netns(&self) -> Result<&PathBuf> {
        self.netns.as_ref().ok_or_else(|| CniError::new(Code::InvalidEnvironment, "CNI_NETNS is missing"))
    }
}

/// CNI's rule for container ids.
fn check_container(id: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts = id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if starts && id.len() <= 255 && id.bytes().all(legal) {
        return Ok(());
    }
    Err(CniError::new(Code::InvalidEnvironment, format!("CNI_CONTAINERID {id:?} is no container id")))
}

/// The kernel's rule for interface names.
fn check_interface(name: &str, code: Code) -> Result<()> {
    let legal = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    let short = (1..=LONGEST_INTERFACE_NAME).contains(&name.len());
    if short && name != "." && name != ".." && name.chars().all(legal) {
        return Ok(());
    }
    Err(CniError::new(code, format!("{name:?} is no interface name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(cidr: &str) -> Result<Range> {
        Conf::parse(format!(r#"{{"cniVersion":"1.0.0","name":"n","podCIDR":"{cidr}"}}"#).as_bytes())?.range()
    }

    #[test]
    fn the_first_address_is_the_gateways_and_the_last_nobodys() {
        let range = range("10.244.4.9/30").unwrap();
        assert_eq!(range.gateway(), Ipv4Addr::new(10, 244, 4, 9));
        assert_eq!((range.size(), range.address(0)), (1, Ipv4Addr::new(10, 244, 4, 10)));
        assert_eq!(range.position(Ipv4Addr::new(10, 244, 4, 10)), Some(0));
        assert_eq!(range.position(Ipv4Addr::new(10, 244, 4, 11)), None);
        assert_eq!(range.position(Ipv4Addr::new(10, 244, 4, 9)), None);
    }

    #[test]
    fn other_ranges_are_refused() {
        for cidr in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/33", "fd00::/64", "x/24"] {
            assert_eq!(range(cidr).unwrap_err().code, Code::InvalidConfig, "{cidr}");
        }
    }

    #[test]
    fn broken_requests_have_cnis_codes() {
        assert_eq!(Conf::parse(b"{").unwrap_err().code, Code::Decoding);
        assert_eq!(Conf::parse(br#"{"cniVersion":"9.0.0"}"#).unwrap_err().code, Code::IncompatibleVersion);
        assert_eq!(Conf::parse(br#"{"name":"../x"}"#).unwrap_err().code, Code::InvalidConfig);
        for (container, ifname) in [("", "eth0"), ("a/b", "eth0"), ("a", ""), ("a", "a/b"), ("a", "0123456789abcdef")] {
            let env = [("CNI_CONTAINERID", container), ("CNI_IFNAME", ifname)];
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            assert_eq!(Target::read(&env).unwrap_err().code, Code::InvalidEnvironment, "{container} {ifname}");
        }
    }
}
