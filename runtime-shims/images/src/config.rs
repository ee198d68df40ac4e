//! Settings: registries with their mirrors, and the bounds of what is accepted.
//!
//! Must not know: HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of a [`crate::Store`]. As a file:
///
/// ```yaml
/// registries:
///   docker.io:
///     mirrors: ["https://mirror.example:5000", "http://10.0.0.1/prefix"]
///   registry.example:
///     caFile: /etc/ssl/private-ca.pem
///     auth: { username: me, password: secret }
///   "*":
///     mirrors: ["https://cache.example"]
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// By the registry's name in references (`docker.io`, `host:port`); `*` is for those not named.
    pub registries: BTreeMap<String, Registry>,
    pub limits: Limits,
}

/// How a registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Registry {
    /// Asked first, in this order; the registry itself is the last. `[scheme://]host[:port][/prefix]`.
    pub mirrors: Vec<String>,
    /// Plain HTTP. Not set: for loopback addresses only, as containerd does.
    pub plain_http: Option<bool>,
    /// TLS certificates are not verified.
    pub skip_verify: bool,
    /// Certificates (PEM) trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Credentials for whoever brings none.
    pub auth: Option<Credentials>,
}

/// Credentials in a settings file.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({:?}, …)", self.username)
    }
}

/// Bounds of what one image may take. Defaults are far above honest images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Layers fetched and unpacked at once.
    pub parallel: usize,
    /// Bytes of one blob (a compressed layer).
    pub blob_bytes: u64,
    /// Bytes of one unpacked layer.
    pub layer_bytes: u64,
    /// Files, directories, links of one layer.
    pub layer_entries: u64,
    /// Layers of one image (overlayfs takes 500).
    pub layers: usize,
    /// Failures in a row, without a byte gained, after which a download is given up.
    pub retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            parallel: 3,
            blob_bytes: 64 * GIB,
            layer_bytes: 128 * GIB,
            layer_entries: 4_000_000,
            layers: 500,
            retries: 5,
        }
    }
}

/// One place to fetch from.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `host[:port][/prefix]`, what comes before `/v2`.
    pub host: String,
    pub plain_http: bool,
    pub skip_verify: bool,
    pub ca_file: Option<PathBuf>,
    /// Another host than the reference names: it is told which registry is meant, and gets no caller's credentials.
    pub mirror: bool,
    pub auth: Option<Credentials>,
}

impl Config {
    /// Where to look for an image whose reference names this registry (`docker.io`, `host:port`), in order.
    pub fn endpoints(&self, domain: &str) -> Vec<Endpoint> {
        let own = self.registries.get(domain);
        let asked = own.or_else(|| self.registries.get("*"));
        let mirrors = asked.map(|it| it.mirrors.as_slice()).unwrap_or_default();
        let mut endpoints: Vec<Endpoint> = mirrors.iter().map(|it| self.mirror(it)).collect();
        endpoints.retain(|it| it.host != domain);
        endpoints.push(endpoint(domain, None, own, false));
        endpoints
    }

    fn mirror(&self, address: &str) -> Endpoint {
        let (scheme, host) = match address.split_once("://") {
            Some((scheme, host)) => (Some(scheme == "http"), host),
            None => (None, address),
        };
        let host = host.trim_end_matches('/');
        let name = host.split('/').next().unwrap_or_default();
        endpoint(host, scheme, self.registries.get(name), true)
    }
}

fn endpoint(host: &str, plain: Option<bool>, settings: Option<&Registry>, mirror: bool) -> Endpoint {
    let settings = settings.cloned().unwrap_or_default();
    let plain_http = plain.or(settings.plain_http).unwrap_or_else(|| is_loopback(host));
    Endpoint {
        host: host.to_owned(),
        plain_http,
        skip_verify: settings.skip_verify,
        ca_file: settings.ca_file,
        mirror,
        auth: settings.auth,
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.split('/').next().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(config: &Config, reference: &str) -> Vec<(String, bool)> {
        let found = config.endpoints(reference.parse::<crate::Reference>().unwrap().domain());
        found.into_iter().map(|it| (it.host, it.plain_http)).collect()
    }

    #[test]
    fn plain_http_is_for_loopback_unless_configured() {
        let mut config = Config::default();
        for (name, plain) in
            [("127.0.0.1:5000", true), ("localhost:5000", true), ("[::1]:1", true), ("10.0.0.1", false)]
        {
            assert_eq!(hosts(&config, &format!("{name}/a")), [(name.to_owned(), plain)]);
        }
        config.registries.insert("10.0.0.1".into(), Registry { plain_http: Some(true), ..Default::default() });
        assert_eq!(hosts(&config, "10.0.0.1/a"), [("10.0.0.1".to_owned(), true)]);
    }

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let mirrors = vec!["http://m1:5000/prefix/".to_owned(), "m2".to_owned()];
        let mut config = Config::default();
        config.registries.insert("*".into(), Registry { mirrors, ..Default::default() });
        let expected = [("m1:5000/prefix".to_owned(), true), ("m2".into(), false), ("docker.io".into(), false)];
        assert_eq!(hosts(&config, "busybox"), expected);
        config.registries.insert("docker.io".into(), Registry::default());
        assert_eq!(hosts(&config, "busybox"), [("docker.io".to_owned(), false)]);
    }
}
