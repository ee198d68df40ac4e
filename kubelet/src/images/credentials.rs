//! Registry credentials from a pod's imagePullSecrets.
//!
//! Must not know: pulling.

use std::collections::BTreeMap;

use base64::Engine as _;
use k8s_openapi::api::core::v1::Pod;
use pintle_cri::v1::AuthConfig;
use serde::Deserialize;

use super::reference::split_registry;
use crate::objects::Objects;
use crate::plan::environment::{Data, ObjectKind};
use crate::plan::pod;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// base64 of `username:password`
    auth: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

/// Every credential that fits the image, the most specific path first.
pub async fn of(pod: &Pod, image: &str, objects: &Objects) -> Vec<AuthConfig> {
    let secrets = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.clone()).unwrap_or_default();
    let mut found = Vec::new();
    for secret in secrets {
        if let Ok(Some(data)) = objects.get(ObjectKind::Secret, pod::namespace(pod), &secret.name).await {
            found.extend(entries(&data));
        }
    }
    found.retain(|(place, _)| fits(place, image));
    found.sort_by_key(|(place, _)| std::cmp::Reverse(place.len()));
    found.into_iter().filter_map(|(place, entry)| auth(place, entry)).collect()
}

fn entries(data: &Data) -> Vec<(String, Entry)> {
    let modern = data.get(".dockerconfigjson").and_then(|json| serde_json::from_slice::<DockerConfig>(json).ok());
    let auths = match modern {
        Some(config) => Some(config.auths),
        None => data.get(".dockercfg").and_then(|json| serde_json::from_slice(json).ok()),
    };
    auths.unwrap_or_default().into_iter().map(|(place, entry)| (trim(&place), entry)).collect()
}

/// `https://index.docker.io/v1/` names Docker Hub; schemes and API versions do not count.
fn trim(place: &str) -> String {
    let bare = place.trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    if bare == "index.docker.io" { "docker.io".into() } else { bare.into() }
}

fn fits(place: &str, image: &str) -> bool {
    let (host, path) = split_registry(image);
    let host = host.unwrap_or("docker.io");
    let (wanted, prefix) = place.split_once('/').unwrap_or((place, ""));
    let same_host = match wanted.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => wanted == host,
    };
    same_host && path.starts_with(prefix)
}

fn auth(place: String, entry: Entry) -> Option<AuthConfig> {
    let (username, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        let decoded = base64::engine::general_purpose::STANDARD.decode(entry.auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        (username.to_string(), password.to_string())
    };
    Some(AuthConfig { username, password, server_address: place, ..AuthConfig::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fits_its_registry_and_path() {
        assert!(fits("registry.example.org", "registry.example.org/a/b:1"));
        assert!(fits("*.example.org", "registry.example.org/a"));
        assert!(fits(&trim("https://index.docker.io/v1/"), "busybox"));
        assert!(!fits("registry.example.org/team", "registry.example.org/other/b"));
    }

    #[test]
    fn both_secret_formats_are_read() {
        let modern =
            Data::from([(".dockerconfigjson".into(), br#"{"auths":{"r.example":{"auth":"dTpwOnE="}}}"#.to_vec())]);
        let (place, entry) = entries(&modern).remove(0);
        let config = auth(place, entry).unwrap();
        assert_eq!((config.username.as_str(), config.password.as_str()), ("u", "p:q"));
        let old = Data::from([(".dockercfg".into(), br#"{"r.example":{"username":"u","password":"p"}}"#.to_vec())]);
        assert_eq!(entries(&old).len(), 1);
    }
}
