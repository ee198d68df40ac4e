//! Registry credentials from a pod's imagePullSecrets and from the node's own files.
//!
//! Must not know: pulling.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// What there is for an image.
pub struct Found {
    /// The pod's before the node's, of each the most specific path first.
    pub auths: Vec<AuthConfig>,
    /// Secrets that the pod names and nobody has.
    pub missing: Vec<String>,
}

/// Every credential that fits the image.
pub async fn of(pod: &Pod, image: &str, objects: &Objects, root_dir: &Path) -> Found {
    let secrets = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.clone()).unwrap_or_default();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for secret in secrets.into_iter().filter(|secret| !secret.name.is_empty()) {
        match objects.get(ObjectKind::Secret, pod::namespace(pod), &secret.name).await {
            Ok(Some(data)) => found.extend(entries(&data)),
            _ => missing.push(secret.name),
        }
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = node(root_dir, home.as_deref()).map(|data| entries(&data)).unwrap_or_default();
    Found { auths: fitting(found, image).chain(fitting(own, image)).collect(), missing }
}

fn fitting(mut found: Vec<(String, Entry)>, image: &str) -> impl Iterator<Item = AuthConfig> {
    found.retain(|(place, _)| fits(place, image));
    found.sort_by_key(|(place, _)| std::cmp::Reverse(place.len()));
    found.into_iter().filter_map(|(place, entry)| auth(place, entry))
}

/// The first of the files in which a node's credentials may be, where upstream's kubelet looks for them.
fn node(root_dir: &Path, home: Option<&Path>) -> Option<Data> {
    let docker = home.map(|home| home.join(".docker"));
    let modern = [Some(root_dir), docker.as_deref(), Some(Path::new("/.docker"))].map(|dir| (dir, "config.json"));
    let old = [Some(root_dir), home, Some(Path::new("/"))].map(|dir| (dir, ".dockercfg"));
    modern.into_iter().chain(old).find_map(|(dir, name)| {
        let key = if name == "config.json" { ".dockerconfigjson" } else { name };
        let data = Data::from([(key.to_owned(), std::fs::read(dir?.join(name)).ok()?)]);
        (!entries(&data).is_empty()).then_some(data)
    })
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
    let (wanted, host): (Vec<&str>, Vec<&str>) = (wanted.split('.').collect(), host.split('.').collect());
    let same_host = wanted.len() == host.len() && wanted.iter().zip(host).all(|(glob, part)| part_fits(glob, part));
    same_host && path.starts_with(prefix)
}

/// Part of a host's name; a star stands for any letters, never for a dot.
fn part_fits(glob: &str, part: &str) -> bool {
    match glob.split_once('*') {
        Some((start, end)) => part.len() >= start.len() + end.len() && part.starts_with(start) && part.ends_with(end),
        None => glob == part,
    }
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
        assert!(fits("*.example.org", "registry.example.org/a") && !fits("*.org", "registry.example.org/a"));
        assert!(fits("reg*.*.org:5000", "registry.example.org:5000/a") && !fits("reg*.org", "mirror.org/a"));
        assert!(fits(&trim("https://index.docker.io/v1/"), "busybox"));
        assert!(!fits("registry.example.org/team", "registry.example.org/other/b"));
    }

    #[test]
    fn the_nodes_own_credentials_are_in_the_first_file_that_has_some() {
        let dir = tempfile::tempdir().unwrap();
        let (root, home) = (dir.path().join("kubelet"), dir.path().join("home"));
        std::fs::create_dir_all(home.join(".docker")).unwrap();
        std::fs::create_dir_all(&root).unwrap();
        let user = |place: &str| {
            let found = entries(&node(&root, Some(&home))?);
            found.into_iter().find(|(it, _)| it == place).map(|(_, entry)| entry.username)
        };
        std::fs::write(root.join("config.json"), "rubbish").unwrap();
        let config = |user: &str| format!(r#"{{"auths":{{"r.example":{{"username":"{user}"}}}},"credsStore":"x"}}"#);
        std::fs::write(home.join(".docker/config.json"), config("home")).unwrap();
        assert_eq!(user("r.example").as_deref(), Some("home"));
        std::fs::write(root.join("config.json"), config("kubelet")).unwrap();
        assert_eq!(user("r.example").as_deref(), Some("kubelet"));
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
