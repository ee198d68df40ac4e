//! A pod under examination: its containers, and how those that do wrong are named.
//!
//! Must not know: what is wrong.

use std::collections::BTreeSet;

use serde_json::Value;

pub struct Subject<'a> {
    /// Of the standard's version.
    pub minor: u32,
    pub annotations: &'a Value,
    pub spec: &'a Value,
}

impl<'a> Subject<'a> {
    pub fn new(pod: &'a Value, minor: u32) -> Self {
        Self { minor, annotations: &pod["metadata"]["annotations"], spec: &pod["spec"] }
    }

    /// Init containers, containers, ephemeral containers.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| each(&self.spec[list]))
    }

    /// The names of the containers that `bad` is true of.
    pub fn those(&self, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| bad(container)).map(name).collect()
    }

    pub fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Since 1.35 a pod with users of its own may do more.
    pub fn has_own_users(&self) -> bool {
        self.minor >= 35 && self.spec["hostUsers"] == false
    }
}

pub fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

pub fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// `"a", "b"`.
pub fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

pub fn plural<'w>(one: &'w str, several: &'w str, count: usize) -> &'w str {
    if count == 1 { one } else { several }
}

/// `container "a"`, `containers "a", "b"`.
pub fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and container "a"`: the pod itself, then its containers.
pub fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let containers = (!names.is_empty()).then(|| containers(names));
    let all: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().chain(containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

/// A sorted set of words.
pub type Words = BTreeSet<String>;

/// The texts of a map.
pub fn each_pair(map: &Value) -> impl Iterator<Item = (&str, &str)> {
    map.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}
