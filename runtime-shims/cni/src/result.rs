//! The result of an ADD, as CNI's versions write it.
//!
//! Must not know: how it came about.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::links::Link;

/// What an ADD made.
#[derive(Debug)]
pub struct Attached<'a> {
    pub bridge: Link,
    pub outer: Link,
    pub inner: Link,
    pub netns: &'a Path,
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
}

impl Attached<'_> {
    pub fn document(&self, version: &str) -> String {
        let interface = |link: &Link| json!({ "name": link.name, "mac": link.mac });
        let mut inner = interface(&self.inner);
        inner["sandbox"] = json!(self.netns);
        let mut ip = json!({ "address": format!("{}/32", self.address), "gateway": self.gateway, "interface": 2 });
        mark_family(&mut ip, version);
        let document = json!({
            "cniVersion": version,
            "interfaces": [interface(&self.bridge), interface(&self.outer), inner],
            "ips": [ip],
            "routes": [{ "dst": "0.0.0.0/0", "gw": self.gateway }],
            "dns": {},
        });
        document.to_string()
    }
}

/// The loopback device of a namespace.
pub fn loopback(version: &str, netns: &Path) -> String {
    let mut ip = json!({ "address": "127.0.0.1/8", "interface": 0 });
    mark_family(&mut ip, version);
    let interface = json!({ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": netns });
    json!({ "cniVersion": version, "interfaces": [interface], "ips": [ip], "dns": {} }).to_string()
}

/// Before 1.0 each address carried its family.
fn mark_family(ip: &mut Value, version: &str) {
    if version.starts_with("0.") {
        ip["version"] = json!("4");
    }
}
