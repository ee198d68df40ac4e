//! Upstream's own test data, which fills every field of every kind with odd values, goes through every rule and
//! table without a panic and without a kind that does not decode.

use jiff::Timestamp;
use pintle_api::kinds::{self, Kind, convert};
use pintle_api::tables::{self, Include};
use pintle_api::validation::meta;
use pintle_api::{canonical, facts, fields};
use serde_json::{Value, json};

fn upstream(kind: &Kind) -> Option<Value> {
    let folder = std::env::var_os("PINTLE_UPSTREAM")?;
    let group = if kind.group.is_empty() { "core" } else { kind.group };
    let file = format!("api-testdata/{group}.{}.{}.json", kind.version, kind.kind);
    let text = std::fs::read_to_string(std::path::Path::new(&folder).join(file)).ok()?;
    Some(serde_json::from_str(&text).expect("upstream's data is JSON"))
}

fn each(mut look: impl FnMut(&'static Kind, Value)) {
    for kind in kinds::all() {
        if let Some(object) = upstream(kind) {
            look(kind, object);
        }
    }
}

#[test]
fn every_rule_takes_every_field() {
    each(|kind, object| {
        let mut new = object.clone();
        meta::meta(kind, &object);
        if kind.kind == "PodDisruptionBudget" {
            // its test data has a null time, which only Go's types take; clients do not write the status
            new["status"] = Value::Null;
        }
        if let Some(create) = kind.hooks.create {
            create(&mut new).unwrap_or_else(|e| panic!("{}: {e}", kind.kind));
        }
        for subresource in ["", "status"] {
            if let Some(update) = kind.hooks.update {
                let mut new = object.clone();
                update(&mut new, &object, subresource).unwrap_or_else(|e| panic!("{}: {e}", kind.kind));
            }
        }
    });
}

#[test]
fn an_update_that_changes_nothing_is_no_forbidden_change() {
    each(|kind, mut object| {
        if let Some(defaults) = kind.hooks.defaults {
            defaults(&mut object).expect("decodes");
        }
        let Some(update) = kind.hooks.update else { return };
        let mut new = object.clone();
        let errors = update(&mut new, &object, "").expect("decodes");
        let about_change = |text: &String| text.contains("immutable") || text.contains("may not change");
        let wrong: Vec<String> = errors.iter().map(ToString::to_string).filter(about_change).collect();
        assert_eq!(wrong, [] as [String; 0], "{}", kind.kind);
        assert!(!kinds::bumps_generation(kind, &object, &object), "{}", kind.kind);
    });
}

#[test]
fn every_table_takes_every_field() {
    let now = Timestamp::UNIX_EPOCH;
    each(|kind, object| {
        fields::selectable(kind, &object);
        let table = tables::render(kind, &[&object], json!({}), now, Include::Object);
        let columns = table["columnDefinitions"].as_array().map(Vec::len);
        assert_eq!(table["rows"][0]["cells"].as_array().map(Vec::len), columns, "{}", kind.kind);
    });
}

#[test]
fn what_is_stored_under_another_name_comes_back() {
    each(|kind, object| {
        if !convert::is_face(kind) || kind.kind != "Event" {
            return;
        }
        let mut there = object.clone();
        convert::to_stored(kind, &mut there);
        convert::from_stored(kind, &mut there);
        assert_eq!(there, object);
    });
}

/// What a client reads and writes back unchanged is stored as it was: no rule adds to it a second time, and none of
/// them takes its own work for a change.
#[test]
fn writing_back_what_was_read_changes_nothing() {
    each(|kind, object| {
        let (group, version, _) = kind.storage;
        let Some(ty) = facts::type_of(group, version, kind.kind).filter(|_| !convert::is_face(kind)) else { return };
        let written = |mut object: Value, old: Option<&Value>| {
            canonical::canonicalize(&mut object, ty).expect("decodes");
            if let Some(defaults) = kind.hooks.defaults {
                defaults(&mut object).expect("decodes");
            }
            let prepared = match (old, kind.hooks.create, kind.hooks.update) {
                (None, Some(create), _) => create(&mut object),
                (Some(old), _, Some(update)) => update(&mut object, old, ""),
                _ => Ok(Vec::new()),
            };
            prepared.unwrap_or_else(|e| panic!("{}: {e}", kind.kind));
            canonical::canonicalize(&mut object, ty).expect("decodes");
            object
        };
        let mut object = object;
        if let Some(fields) = object.as_object_mut() {
            // clients do not write it, and upstream's has null times that only Go's types take
            fields.remove("status");
        }
        let stored = written(object, None);
        let again = written(stored.clone(), Some(&stored));
        assert_eq!(again, stored, "{}", kind.kind);
        assert!(!kinds::bumps_generation(kind, &stored, &again), "{}", kind.kind);
    });
}
