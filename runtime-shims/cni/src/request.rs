//! What a runtime asks: its environment variables and the network configuration on stdin, checked.
//!
//! Must not know: how it is carried out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::caller::Capabilities;
use crate::error::{CniError, Code, Context, Result};
use crate::range::Range;

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
    /// The node's pod CIDR; its first address is the bridge's.
    #[serde(rename = "podCIDR", default)]
    pod_cidr: String,
    /// Several, in a dual-stack cluster: the first is the pods' primary family. Instead of `podCIDR`.
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// What the runtime adds, as the configuration's `capabilities` ask for.
    #[serde(default)]
    pub runtime_config: Capabilities,
    /// For GC: the attachments that still exist.
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub valid_attachments: Vec<Attachment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
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

    /// The ranges that every pod gets an address of; at least one.
    ///
    /// # Errors
    /// None is given, one is no CIDR, or too small for a gateway and a pod.
    pub fn ranges(&self) -> Result<Vec<Range>> {
        let broken = |cidr: &str| CniError::new(Code::InvalidConfig, format!("{cidr:?} is no pod CIDR"));
        let single = Some(&self.pod_cidr).filter(|_| self.pod_cidrs.is_empty());
        let cidrs = single.into_iter().chain(&self.pod_cidrs);
        cidrs.map(|cidr| Range::parse(cidr).ok_or_else(|| broken(cidr))).collect()
    }

    /// The addresses that the runtime asks for.
    ///
    /// # Errors
    /// One is no address.
    pub fn wanted(&self) -> Result<Vec<IpAddr>> {
        let parse = |text: &String| {
            let address = text.split('/').next().unwrap_or_default().parse();
            address.context(Code::InvalidConfig, || format!("{text:?} is no address"))
        };
        self.runtime_config.ips.iter().map(parse).collect()
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

    fn ranges(conf: &str) -> Result<Vec<Range>> {
        Conf::parse(format!(r#"{{"cniVersion":"1.0.0","name":"n",{conf}}}"#).as_bytes())?.ranges()
    }

    #[test]
    fn one_range_or_several() {
        let range = |cidr| Range::parse(cidr).unwrap();
        assert_eq!(ranges(r#""podCIDR":"10.0.0.0/24""#).unwrap(), [range("10.0.0.0/24")]);
        let both = ranges(r#""podCIDRs":["10.0.0.0/24","fd00::/64"]"#).unwrap();
        assert_eq!(both, [range("10.0.0.0/24"), range("fd00::/64")]);
        for broken in [r#""podCIDR":"x/24""#, r#""mtu":1"#, r#""podCIDRs":["10.0.0.0"]"#] {
            assert_eq!(ranges(broken).unwrap_err().code, Code::InvalidConfig, "{broken}");
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
