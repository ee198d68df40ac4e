//! Every object of upstream's own serialization tests survives: they are given as JSON and as protobuf.
//!
//! The data is upstream's and not part of this repository: it is looked for in `shared/upstream/api-testdata` beside any
//! folder above, or where `PINTLE_UPSTREAM` says; without it the tests say that they are skipped.

use std::path::{Path, PathBuf};

use pintle_api::{canonical, facts, protobuf};
use serde_json::Value;

/// The folder with the pairs, if this machine has it.
fn testdata() -> Option<PathBuf> {
    let named = std::env::var_os("PINTLE_UPSTREAM").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared/upstream"));
    let found = named.into_iter().chain(beside).map(|root| root.join("api-testdata")).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: no shared/upstream/api-testdata above this crate");
    }
    found
}

/// `(name, JSON, protobuf)` of each pair.
fn pairs() -> Vec<(String, Value, Vec<u8>)> {
    let Some(dir) = testdata() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.extension().is_some_and(|e| e == "json") {
            let json = std::fs::read(&path).expect("readable file");
            let name = path.file_stem().expect("has a name").to_string_lossy().into_owned();
            let proto = std::fs::read(path.with_extension("pb")).expect("its pair");
            found.push((name, serde_json::from_slice(&json).expect("JSON"), proto));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// From the name of a pair, as `apps.v1.Deployment`: some of the objects do not say what they are.
fn type_of(name: &str) -> &'static facts::Type {
    let mut parts = name.rsplitn(3, '.');
    let (kind, version, group) = (parts.next(), parts.next(), parts.next().filter(|group| *group != "core"));
    facts::type_of(group.unwrap_or_default(), version.unwrap_or_default(), kind.unwrap_or_default())
        .unwrap_or_else(|| panic!("no facts about {name}"))
}

#[test]
fn canonical_form_changes_nothing_in_what_upstream_wrote() {
    for (name, json, _) in pairs() {
        let mut object = json.clone();
        canonical::canonicalize(&mut object, type_of(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(object, json, "{name}");
    }
}

#[test]
fn fields_are_written_in_upstreams_order() {
    for (name, json, _) in pairs() {
        let dir = testdata().expect("pairs came from it");
        let original = std::fs::read(dir.join(format!("{name}.json"))).expect("readable file");
        let raw: Box<serde_json::value::RawValue> = serde_json::from_slice(&original).expect("JSON");
        let compact: String = compact(raw.get());
        let written = String::from_utf8(canonical::to_bytes(&json, type_of(&name))).expect("UTF-8");
        assert_eq!(written, compact, "{name}");
    }
}

/// Without the white space between tokens.
fn compact(json: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut escaped = false;
    for c in json.chars() {
        if in_string || !c.is_whitespace() {
            out.push(c);
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
    }
    out
}

#[test]
fn protobuf_decodes_to_the_json() {
    for (name, json, proto) in pairs() {
        let decoded = protobuf::decode_as(&proto, Some(type_of(&name))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded, json, "{name}");
    }
}

#[test]
fn json_encodes_to_the_protobuf_byte_for_byte() {
    for (name, json, proto) in pairs() {
        let encoded = protobuf::encode(&json, type_of(&name));
        // two numberings are equal when what they decode to is, so that a difference shows as JSON first
        let decoded = protobuf::decode_as(&encoded, Some(type_of(&name))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded, json, "{name}");
        assert_eq!(encoded, proto, "{name}");
    }
}
