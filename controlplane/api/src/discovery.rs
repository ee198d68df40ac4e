//! Discovery documents, made from the kind table: `/api`, `/apis`, `/api/v1`, `/apis/<group>`,
//! `/apis/<group>/<version>` and the aggregated forms.
//!
//! Must not know: requests, or which media type was asked for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::kinds::{Kind, Subresource};

/// Versions of the aggregated form: `apidiscovery.k8s.io/<version>`.
pub const AGGREGATED: [&str; 2] = ["v2", "v2beta1"];

/// One group of the named groups (`/apis`), with its versions in the order they are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub versions: Vec<String>,
}

/// The named groups among `kinds`, in their order there.
pub fn groups<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in kinds.into_iter().filter(|kind| !kind.group.is_empty()) {
        match groups.iter_mut().find(|group| group.name == kind.group) {
            None => groups.push(Group { name: kind.group.to_owned(), versions: vec![kind.version.to_owned()] }),
            Some(group) if group.versions.iter().any(|v| v == kind.version) => {}
            Some(group) => group.versions.push(kind.version.to_owned()),
        }
    }
    groups
}

/// `/api`: `metav1.APIVersions`. `address` is where clients reach this server, `host:port`.
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `/apis`: `metav1.APIGroupList`.
pub fn group_list(groups: &[Group]) -> Value {
    let groups: Vec<Value> = groups.iter().map(|group| Value::Object(group_fields(group))).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/<group>`: `metav1.APIGroup`.
pub fn group(group: &Group) -> Value {
    let mut document = Map::from_iter([("kind".to_owned(), json!("APIGroup")), ("apiVersion".to_owned(), json!("v1"))]);
    document.extend(group_fields(group));
    Value::Object(document)
}

fn group_fields(group: &Group) -> Map<String, Value> {
    let version = |v: &String| json!({ "groupVersion": format!("{}/{v}", group.name), "version": v });
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(group.name));
    fields.insert("versions".to_owned(), group.versions.iter().map(version).collect());
    if let Some(preferred) = group.versions.first() {
        fields.insert("preferredVersion".to_owned(), version(preferred));
    }
    fields
}

/// `/api/v1` and `/apis/<group>/<version>`: `metav1.APIResourceList` of the kinds of that group and version.
pub fn resource_list<'a>(group: &str, version: &str, kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for kind in kinds.into_iter().filter(|kind| kind.group == group && kind.version == version) {
        resources.push(resource(kind));
        resources.extend(kind.subresources.iter().map(|sub| subresource(kind, sub)));
    }
    let mut list = json!({ "kind": "APIResourceList", "resources": resources });
    if group.is_empty() {
        list["groupVersion"] = json!(version);
    } else {
        // upstream's core list has no apiVersion: clients of v1 never needed it
        list["apiVersion"] = json!("v1");
        list["groupVersion"] = json!(format!("{group}/{version}"));
    }
    list
}

fn resource(kind: &Kind) -> Value {
    let mut it = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        it["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        it["categories"] = json!(kind.categories);
    }
    if kind.stored() {
        it["storageVersionHash"] = json!(storage_version_hash(kind));
    }
    it
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let mut it = json!({
        "name": format!("{}/{}", kind.plural, sub.name),
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if is_foreign(kind, sub) {
        it["group"] = json!(sub.group);
        it["version"] = json!(sub.version);
    }
    it
}

fn is_foreign(kind: &Kind, sub: &Subresource) -> bool {
    (sub.group, sub.version) != (kind.group, kind.version)
}

/// Upstream's `StorageVersionHash`: eight bytes of a digest over the group, version and kind that upstream stores.
fn storage_version_hash(kind: &Kind) -> String {
    let (group, version, _) = kind.storage;
    // upstream still stores these in an older version, and clients compare hashes between servers
    let version = match kind.kind {
        "CustomResourceDefinition" | "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding" => "v1beta1",
        _ => version,
    };
    let digest = Sha256::digest(format!("{group}/{version}/{}", kind.kind));
    STANDARD.encode(digest.iter().copied().take(8).collect::<Vec<u8>>())
}

/// `/api` in the aggregated form: the core group alone. `form` is one of [`AGGREGATED`].
pub fn aggregated_core<'a>(form: &str, kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let core = Group { name: String::new(), versions: vec!["v1".to_owned()] };
    aggregated(form, &[core], kinds, &|_, _| None)
}

/// What is listed of a group and version that another server has; None of this server's own.
pub type Remote<'a> = &'a dyn Fn(&str, &str) -> Option<Value>;

/// `/apis` in the aggregated form. `form` is one of [`AGGREGATED`].
pub fn aggregated<'a>(
    form: &str,
    groups: &[Group],
    kinds: impl IntoIterator<Item = &'a Kind>,
    remote: Remote<'_>,
) -> Value {
    let kinds: Vec<&Kind> = kinds.into_iter().collect();
    let items: Vec<Value> = groups.iter().map(|group| aggregated_group(group, &kinds, remote)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(group: &Group, kinds: &[&Kind], remote: Remote<'_>) -> Value {
    let version = |v: &String| {
        if let Some(entry) = remote(&group.name, v) {
            return entry;
        }
        let of_version = kinds.iter().filter(|kind| kind.group == group.name && kind.version == v);
        let resources: Vec<Value> = of_version.map(|kind| aggregated_resource(kind)).collect();
        json!({ "version": v, "resources": resources, "freshness": "Current" })
    };
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({ "name": group.name }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut it = json!({
        "resource": kind.plural,
        // group and version stay empty where they are the list's own, as upstream leaves them
        "responseKind": { "group": "", "version": "", "kind": kind.kind },
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        it["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        it["categories"] = json!(kind.categories);
    }
    if !kind.subresources.is_empty() {
        it["subresources"] = kind.subresources.iter().map(|sub| aggregated_subresource(kind, sub)).collect();
    }
    it
}

fn aggregated_subresource(kind: &Kind, sub: &Subresource) -> Value {
    let (group, version) = if is_foreign(kind, sub) { (sub.group, sub.version) } else { ("", "") };
    json!({
        "subresource": sub.name,
        "responseKind": { "group": group, "version": version, "kind": sub.kind },
        "verbs": sub.verbs,
    })
}
