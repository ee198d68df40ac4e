//! Discovery made from the kind table equals upstream's own documents, where those are at hand
//! (`PINTLE_UPSTREAM` names the folder, else `upstream` beside the workspace).

use std::path::PathBuf;

use pintle_api::{discovery, kinds};
use serde_json::Value;

fn upstream(file: &str) -> Option<Value> {
    let folder = std::env::var_os("PINTLE_UPSTREAM").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../upstream")));
    let text = std::fs::read_to_string(folder.join("discovery").join(file)).ok()?;
    Some(serde_json::from_str(&text).expect("upstream's documents are JSON"))
}

/// `v1`, `v2`: not an alpha or a beta.
fn is_ga(version: &Value) -> bool {
    version["version"].as_str().is_some_and(|v| v.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok()))
}

fn keep_ga(groups: &mut Value) {
    let groups = groups.as_array_mut().expect("a list of groups");
    for group in groups.iter_mut() {
        group["versions"].as_array_mut().expect("versions").retain(is_ga);
    }
    groups.retain(|group| !group["versions"].as_array().expect("versions").is_empty());
}

#[test]
fn every_group_version_lists_upstreams_resources() {
    for group in discovery::groups(kinds::all()) {
        for version in &group.versions {
            let Some(expected) = upstream(&format!("apis__{}__{version}.json", group.name)) else { return };
            assert_eq!(discovery::resource_list(&group.name, version, kinds::all()), expected);
        }
    }
    let Some(expected) = upstream("api__v1.json") else { return };
    assert_eq!(discovery::resource_list("", "v1", kinds::all()), expected);
}

#[test]
fn groups_come_in_upstreams_order() {
    let Some(mut expected) = upstream("apis.json") else { return };
    keep_ga(&mut expected["groups"]);
    assert_eq!(discovery::group_list(&discovery::groups(kinds::all())), expected);
    let Some(expected) = upstream("api.json") else { return };
    assert_eq!(discovery::api_versions("10.10.10.10:8050"), expected);
}

#[test]
fn one_group_says_its_versions() {
    for group in discovery::groups(kinds::all()) {
        let Some(mut expected) = upstream(&format!("apis__{}.json", group.name)) else { return };
        expected["versions"].as_array_mut().expect("versions").retain(is_ga);
        assert_eq!(discovery::group(&group), expected);
    }
}

#[test]
fn the_aggregated_form_says_the_same() {
    let Some(mut expected) = upstream("aggregated_v2.json") else { return };
    keep_ga(&mut expected["items"]);
    assert_eq!(discovery::aggregated("v2", &discovery::groups(kinds::all()), kinds::all(), &|_, _| None), expected);
}

#[test]
fn a_kind_is_found_by_plural_and_by_name() {
    let pod = kinds::find("", "v1", "pods").expect("pods");
    assert_eq!((pod.kind, pod.namespaced, pod.short_names), ("Pod", true, &["po"][..]));
    let scale = kinds::by_kind("apps", "v1", "Deployment").and_then(|k| k.subresource("scale")).expect("scale");
    assert_eq!((scale.group, scale.version, scale.kind), ("autoscaling", "v1", "Scale"));
    assert!(kinds::find("apps", "v1beta1", "deployments").is_none());
}

#[test]
fn two_faces_share_one_storage() {
    for kind in kinds::all() {
        let (group, version, plural) = kind.storage;
        let stored = kinds::find(group, version, plural).expect("the storage row exists");
        assert_eq!(stored.storage, kind.storage, "storage rows point at themselves");
        assert_eq!(stored.kind, kind.kind);
    }
    assert_eq!(kinds::find("events.k8s.io", "v1", "events").map(|k| k.storage), Some(("", "v1", "events")));
}
