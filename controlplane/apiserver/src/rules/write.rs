//! Creating and changing an object: what the server fills in, keeps and refuses
//! (`k8s.io/apiserver/pkg/registry/rest/{create,update,meta}.go`).
//!
//! Must not know: stores, requests, clocks.

use pintle_api::kinds::Kind;
use pintle_api::object::{self, metadata_mut};
use pintle_api::status::Status;
use serde_json::{Map, Value};

use super::traits;

/// The longest prefix a name is generated from; five characters follow.
const GENERATE_PREFIX: usize = 58;

/// The alphabet of generated names: no vowels, so no words, and nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five characters after `prefix`, from 64 random bits.
pub fn generated_name(prefix: &str, mut random: u64) -> String {
    let mut name: String = prefix.chars().take(GENERATE_PREFIX).collect();
    for _ in 0..5 {
        let index = usize::try_from(random % ALPHABET.len() as u64).unwrap_or_default();
        name.push(char::from(ALPHABET[index]));
        random /= ALPHABET.len() as u64;
    }
    name
}

/// The object's namespace is the request's, or there is none to have.
pub fn align_namespace(object: &mut Value, kind: &Kind, request: &str) -> Result<(), Status> {
    let expected = if kind.namespaced { request } else { "" };
    let found = object::namespace(object);
    if found == expected {
        return Ok(());
    }
    if found.is_empty() {
        metadata_mut(object).insert("namespace".to_owned(), expected.into());
        return Ok(());
    }
    if expected.is_empty() {
        metadata_mut(object).remove("namespace");
        return Ok(());
    }
    let why = "the namespace of the provided object does not match the namespace sent on the request";
    Err(Status::bad_request(why))
}

/// The object's name is the URL's, or is filled in from it.
pub fn align_name(object: &mut Value, url: &str) -> Result<(), Status> {
    let found = object::name(object);
    if found.is_empty() {
        metadata_mut(object).insert("name".to_owned(), url.into());
        return Ok(());
    }
    if found != url {
        let why = format!("the name of the object ({found}) does not match the name on the URL ({url})");
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// Fills what only the server may set. `now` is RFC 3339 in whole seconds.
pub fn fill_new(object: &mut Value, kind: &Kind, now: &str, uid: &str) {
    let meta = metadata_mut(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"] {
        meta.remove(field);
    }
    meta.insert("creationTimestamp".to_owned(), now.into());
    meta.insert("uid".to_owned(), uid.into());
    if traits::has_generation(kind) {
        meta.insert("generation".to_owned(), 1.into());
    }
    drop_empty(meta);
    // a node reports its status with its registration; everybody else through `status`
    if kind.subresource("status").is_some() && kind.plural != "nodes" {
        remove(object, "status");
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(field);
    }
}

/// Nulls and empty collections are absent in stored metadata.
fn drop_empty(meta: &mut Map<String, Value>) {
    meta.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
}

/// Keeps in `new` what a client may not change of `old`.
pub fn keep_old(new: &mut Value, old: &Value, kind: &Kind, subresource: &str) {
    let kept = ["creationTimestamp", "deletionTimestamp", "generation"];
    let was = &old["metadata"];
    let meta = metadata_mut(new);
    meta.remove("selfLink");
    for field in kept {
        set_or_remove(meta, field, &was[field]);
    }
    for field in ["uid", "deletionGracePeriodSeconds"] {
        if meta.get(field).is_none_or(|v| v.is_null() || v == "") {
            set_or_remove(meta, field, &was[field]);
        }
    }
    if meta.get("generateName").is_none() {
        set_or_remove(meta, "generateName", &was["generateName"]);
    }
    drop_empty(meta);
    match subresource {
        "status" => keep_all_but_status(new, old),
        "" if kind.subresource("status").is_some() => set_field(new, "status", &old["status"]),
        _ => {}
    }
}

fn keep_all_but_status(new: &mut Value, old: &Value) {
    let (Some(map), Some(was)) = (new.as_object_mut(), old.as_object()) else { return };
    let own = |field: &str| matches!(field, "apiVersion" | "kind" | "metadata" | "status");
    map.retain(|field, _| own(field));
    for (field, value) in was.iter().filter(|(field, _)| !own(field)) {
        map.insert(field.clone(), value.clone());
    }
}

fn set_field(object: &mut Value, field: &str, value: &Value) {
    if let Some(map) = object.as_object_mut() {
        set_or_remove(map, field, value);
    }
}

fn set_or_remove(map: &mut Map<String, Value>, field: &str, value: &Value) {
    if value.is_null() {
        map.remove(field);
    } else {
        map.insert(field.to_owned(), value.clone());
    }
}

/// Counts the change, where it is one of what is desired.
pub fn count_generation(new: &mut Value, old: &Value, kind: &Kind) {
    let counted = traits::has_generation(kind)
        && (desired(new) != desired(old)
            || (traits::annotations_count(kind) && new["metadata"]["annotations"] != old["metadata"]["annotations"]));
    if counted {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        metadata_mut(new).insert("generation".to_owned(), generation.into());
    }
}

/// Everything but type, metadata and status.
fn desired(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(field, _)| !matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status")).collect()
}

/// `new` says nothing that `old` does not; times of managed fields aside, which change by themselves.
pub fn is_same(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return new == old };
    let body = |map: &Map<String, Value>| map.iter().filter(|(k, _)| *k != "metadata").count();
    body(a) == body(b)
        && a.iter().filter(|(k, _)| *k != "metadata").all(|(k, v)| b.get(k) == Some(v))
        && same_metadata(&a["metadata"], &b["metadata"])
}

fn same_metadata(new: &Value, old: &Value) -> bool {
    let plain = |meta: &Value| -> Map<String, Value> {
        let mut map = meta.as_object().cloned().unwrap_or_default();
        map.remove("resourceVersion");
        for entry in map.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            remove(entry, "time");
        }
        map
    };
    plain(new) == plain(old)
}

/// The last finalizer of an object that is to go has gone: the update is the deletion.
pub fn deletes(new: &Value, old: &Value, kind: &Kind) -> bool {
    let meta = &old["metadata"];
    let waits = |list: &Value| list.as_array().is_some_and(|l| !l.is_empty());
    let deleting =
        !meta["deletionTimestamp"].is_null() && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
    let held = is_namespace(kind) && waits(&new["spec"]["finalizers"]);
    deleting && !held && !waits(&new["metadata"]["finalizers"])
}

pub fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

/// Owners named twice are named once; answers their UIDs.
pub fn dedup_owners(object: &mut Value) -> Vec<String> {
    let mut twice = Vec::new();
    let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(Value::Array(owners)) = meta.and_then(|m| m.get_mut("ownerReferences")) {
        let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
        for owner in owners.drain(..) {
            match kept.contains(&owner) {
                true => twice.push(owner["uid"].as_str().unwrap_or_default().to_owned()),
                false => kept.push(owner),
            }
        }
        *owners = kept;
    }
    twice
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_generated_name_is_short_enough_and_has_five_characters_more() {
        assert_eq!(generated_name("web-", 0), "web-bbbbb");
        assert_eq!(generated_name(&"x".repeat(80), 1).len(), 63);
    }

    #[test]
    fn the_last_finalizer_going_is_the_deletion() {
        let kind = pintle_api::kinds::find("", "v1", "configmaps").unwrap();
        let old = json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["a/b"]}});
        let new = json!({"metadata": {"deletionTimestamp": "t"}});
        assert!(deletes(&new, &old, kind));
        assert!(!deletes(&old, &old, kind));
        assert!(!deletes(&new, &json!({"metadata": {}}), kind));
    }

    #[test]
    fn only_a_change_of_what_is_desired_counts() {
        let kind = pintle_api::kinds::find("apps", "v1", "replicasets").unwrap();
        let old = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {}});
        let mut new = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        count_generation(&mut new, &old, kind);
        assert_eq!(new["metadata"]["generation"], 3);
        new["spec"]["replicas"] = 2.into();
        count_generation(&mut new, &old, kind);
        assert_eq!(new["metadata"]["generation"], 4);
    }

    #[test]
    fn the_namespace_of_the_request_wins_or_is_refused() {
        let kind = pintle_api::kinds::find("", "v1", "configmaps").unwrap();
        let mut object = json!({"metadata": {"name": "a"}});
        align_namespace(&mut object, kind, "x").unwrap();
        assert_eq!(object["metadata"]["namespace"], "x");
        assert_eq!(align_namespace(&mut object, kind, "y").unwrap_err().code, 400);
    }
}
