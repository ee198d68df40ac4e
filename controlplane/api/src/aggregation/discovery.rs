//! What other servers say they serve, as this server's discovery says it on their behalf.
//! Source: `kube-aggregator/pkg/apiserver/handler_discovery.go`.
//!
//! Must not know: how they are asked.

use serde_json::{Value, json};

/// The resources of a group and version within a server's `APIGroupDiscoveryList`; None where it is not there.
pub fn resources_of(list: &Value, group: &str, version: &str) -> Option<Vec<Value>> {
    let mut groups = list["items"].as_array()?.iter();
    let found = groups.find(|it| it["metadata"]["name"].as_str().unwrap_or_default() == group)?;
    let found = found["versions"].as_array()?.iter().find(|it| it["version"] == version)?;
    let mut resources = found["resources"].as_array().cloned().unwrap_or_default();
    resources.iter_mut().for_each(complete);
    Some(resources)
}

/// Clients of some versions fall over a missing kind.
fn complete(resource: &mut Value) {
    let empty = || json!({ "group": "", "version": "", "kind": "" });
    if resource["responseKind"].is_null() {
        resource["responseKind"] = empty();
    }
    for subresource in resource["subresources"].as_array_mut().into_iter().flatten() {
        if subresource["responseKind"].is_null() {
            subresource["responseKind"] = empty();
        }
    }
}

/// The resources of an `APIResourceList`, as servers that know no aggregated form answer.
pub fn from_resource_list(list: &Value) -> Vec<Value> {
    let all = || list["resources"].as_array().into_iter().flatten();
    let mut found: Vec<Value> = all().filter(|it| !name(it).contains('/')).map(resource).collect();
    for it in all() {
        let Some((parent, below)) = name(it).split_once('/') else { continue };
        if !found.iter().any(|known| known["resource"] == parent) {
            found.push(json!({ "resource": parent, "scope": scope(it), "singularResource": "", "verbs": [] }));
        }
        let parent = found.iter_mut().find(|known| known["resource"] == parent);
        if let Some(parent) = parent {
            let all = parent["subresources"].take();
            let mut all = all.as_array().cloned().unwrap_or_default();
            all.push(json!({ "subresource": below, "responseKind": kind(it), "verbs": it["verbs"] }));
            parent["subresources"] = all.into();
        }
    }
    found
}

fn name(resource: &Value) -> &str {
    resource["name"].as_str().unwrap_or_default()
}

fn kind(resource: &Value) -> Value {
    let text = |field: &str| resource[field].as_str().unwrap_or_default();
    json!({ "group": text("group"), "version": text("version"), "kind": text("kind") })
}

fn scope(resource: &Value) -> &'static str {
    if resource["namespaced"] == true { "Namespaced" } else { "Cluster" }
}

fn resource(it: &Value) -> Value {
    let mut made = json!({
        "resource": it["name"], "responseKind": kind(it), "scope": scope(it),
        "singularResource": it["singularName"].as_str().unwrap_or_default(), "verbs": it["verbs"],
    });
    for field in ["shortNames", "categories"] {
        if it[field].is_array() {
            made[field] = it[field].clone();
        }
    }
    made
}

/// A version's entry in the aggregated form. Stale: what is listed is what was last seen, if anything was.
pub fn entry(version: &str, resources: &[Value], fresh: bool) -> Value {
    let freshness = if fresh { "Current" } else { "Stale" };
    let mut entry = json!({ "version": version, "freshness": freshness });
    if !resources.is_empty() {
        entry["resources"] = resources.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_old_form_becomes_one_with_subresources_within() {
        let list = json!({ "resources": [
            { "name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "verbs": ["get"], "shortNames": ["bt"] },
            { "name": "boats/status", "namespaced": true, "kind": "Boat", "verbs": ["update"] },
        ]});
        let found = from_resource_list(&list);
        assert_eq!(
            found,
            [json!({
                "resource": "boats", "responseKind": { "group": "", "version": "", "kind": "Boat" }, "scope": "Namespaced",
                "singularResource": "boat", "verbs": ["get"], "shortNames": ["bt"],
                "subresources": [{ "subresource": "status",
                    "responseKind": { "group": "", "version": "", "kind": "Boat" }, "verbs": ["update"] }],
            })]
        );
    }

    #[test]
    fn one_version_is_taken_out_of_what_a_server_has() {
        let list = json!({ "items": [{ "metadata": { "name": "a" }, "versions": [
            { "version": "v1", "resources": [{ "resource": "boats", "subresources": [{ "subresource": "status" }] }] },
        ]}]});
        let found = resources_of(&list, "a", "v1").unwrap();
        assert_eq!(found[0]["responseKind"]["kind"], "");
        assert_eq!(found[0]["subresources"][0]["responseKind"]["kind"], "");
        assert_eq!(resources_of(&list, "a", "v2"), None);
        assert_eq!(resources_of(&list, "b", "v1"), None);
    }
}
