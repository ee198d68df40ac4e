//! Aggregated APIs as pure knowledge: what an APIService says, where its Service leads, whether it is available, which
//! APIServices register themselves, in which order groups are listed.
//! Source: `k8s.io/kube-aggregator/pkg`.
//!
//! Must not know: connections, requests.

pub mod availability;
pub mod discovery;
pub mod endpoint;
pub mod openapi;
pub mod order;
pub mod register;

use serde_json::Value;

use crate::object;

/// The group of APIServices themselves: nobody else serves it.
pub const GROUP: &str = "apiregistration.k8s.io";

/// What an APIService says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    /// None: this server serves it.
    pub service: Option<Service>,
    /// Base64 of PEM; empty where the machine's authorities are trusted.
    pub ca_bundle: String,
    pub skips_verification: bool,
}

/// Who serves an aggregated API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

impl Service {
    /// What its certificate must be for.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

impl Registration {
    pub fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let service = spec["service"].is_object().then(|| {
            let port = spec["service"]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            Service {
                namespace: text(&spec["service"]["namespace"]),
                name: text(&spec["service"]["name"]),
                port: port.unwrap_or(443),
            }
        });
        Self {
            name: object::name(object).to_owned(),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            service,
            ca_bundle: text(&spec["caBundle"]),
            skips_verification: spec["insecureSkipTLSVerify"].as_bool().unwrap_or_default(),
        }
    }

    /// Where its documents are: `/apis/<group>/<version>`.
    pub fn path(&self) -> String {
        format!("/{}", crate::openapi::root(&self.group, &self.version))
    }
}

/// What an APIService is called.
pub fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}
