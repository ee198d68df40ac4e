//! The result of an ADD: what plugins print, what the next of a chain is given, and what callers read.
//!
//! Must not know: how it came about.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// CNI's success document (specification 1.1, section 5; earlier versions since 0.3.0 read alike).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddResult {
    pub cni_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub interfaces: Vec<Interface>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub ips: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub routes: Vec<Route>,
    #[serde(deserialize_with = "or_default")]
    pub dns: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub name: String,
    pub mac: String,
    /// The path of the network namespace it is in; empty for the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// With its prefix length: `10.244.0.5/32`.
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Position in `interfaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    pub dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

impl AddResult {
    /// The addresses inside the container, in the plugins' order. Addresses that name no interface count, as they do for
    /// runtimes.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let inside = |at: usize| self.interfaces.get(at).is_some_and(|interface| !interface.sandbox.is_empty());
        let ours = self.ips.iter().filter(|ip| ip.interface.is_none_or(inside));
        ours.filter_map(|ip| ip.ip()).collect()
    }

    /// As the specification's version `self.cni_version` writes it.
    pub fn document(&self) -> Value {
        let mut document = serde_json::to_value(self).unwrap_or_default();
        // Before 1.0 each address carried its family.
        if self.cni_version.starts_with("0.")
            && let Some(ips) = document.get_mut("ips").and_then(Value::as_array_mut)
        {
            for (ip, address) in ips.iter_mut().zip(&self.ips) {
                ip["version"] = json!(if address.address.contains(':') { "6" } else { "4" });
            }
        }
        document
    }
}

impl Address {
    /// Without the prefix length.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.split('/').next()?.parse().ok()
    }
}

/// Plugins in Go print `null` for what is empty.
fn or_default<'a, T: Default + Deserialize<'a>, D: serde::Deserializer<'a>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> AddResult {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_addresses_inside_the_container_are_the_pods() {
        let result = read(
            r#"{"cniVersion":"1.0.0","interfaces":[{"name":"br0"},{"name":"eth0","sandbox":"/n"}],
            "ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","interface":1},
            {"address":"fd00::2/64"},{"address":"x"}],"routes":null,"dns":null}"#,
        );
        assert_eq!(result.addresses(), ["10.0.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
    }

    #[test]
    fn old_versions_carry_the_family_of_an_address() {
        let ips = vec![Address { address: "fd00::2/128".into(), ..Address::default() }];
        let result = AddResult { cni_version: "0.4.0".into(), ips, ..AddResult::default() };
        assert_eq!(result.document()["ips"][0]["version"], "6");
        let new = AddResult { cni_version: "1.0.0".into(), ..result };
        assert!(new.document()["ips"][0].get("version").is_none());
    }
}
