//! What a CustomResourceDefinition must be, and what becomes of its names among others.
//! Sources: `apiextensions-apiserver/pkg/apis/apiextensions/validation`, `pkg/controller/status`.
//!
//! Must not know: who serves it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cel;
use crate::field::{Error, Errors, Path};
use crate::validation::names;

pub fn check(definition: &Value, errors: &mut Errors) {
    let (spec, path) = (&definition["spec"], Path::new("spec"));
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (said(&spec["group"]), said(&spec["names"]["plural"]));
    let name = said(&definition["metadata"]["name"]);
    if name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, why));
    }
    if group.is_empty() {
        errors.push(Error::required(&path.child("group"), ""));
    } else if group.split('.').count() < 2 {
        let why = "should be a domain with at least one dot";
        errors.push(Error::invalid(&path.child("group"), group.as_str(), why));
    }
    for why in names::dns1123_subdomain(&group).into_iter().filter(|_| !group.is_empty()) {
        errors.push(Error::invalid(&path.child("group"), group.as_str(), why));
    }
    if !matches!(spec["scope"].as_str(), Some("Namespaced" | "Cluster")) {
        errors.push(Error::not_supported(&path.child("scope"), spec["scope"].clone(), &["Cluster", "Namespaced"]));
    }
    if spec["preserveUnknownFields"] == true {
        let why = "must be false in order to use defaults in the schema";
        errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, why));
    }
    check_names(&spec["names"], &path.child("names"), errors);
    check_versions(&spec["versions"], &path.child("versions"), errors);
    super::conversion::check(&spec["conversion"], &path.child("conversion"), errors);
}

fn check_names(own: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let (text, at) = (own[field].as_str().unwrap_or_default(), path.child(field));
        if text.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        for why in names::dns1035_label(&text.to_lowercase()) {
            errors.push(Error::invalid(&at, text, why));
        }
    }
    if own["kind"] == own["listKind"] {
        let why = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), own["listKind"].clone(), why));
    }
}

fn check_versions(versions: &Value, path: &Path, errors: &mut Errors) {
    let all = versions.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        errors.push(Error::required(path, "must have at least one version"));
        return;
    }
    if all.iter().filter(|version| version["storage"] == true).count() != 1 {
        errors.push(Error::invalid(path, versions.clone(), "must have exactly one version marked as storage version"));
    }
    let mut seen = BTreeSet::new();
    for (at, version) in all.iter().enumerate() {
        let (at, name) = (path.index(at), version["name"].as_str().unwrap_or_default());
        for why in names::dns1035_label(name) {
            errors.push(Error::invalid(&at.child("name"), name, why));
        }
        if !seen.insert(name) {
            let why = "must contain unique version names";
            errors.push(Error::invalid(path, versions.clone(), why));
        }
        let (schema, at) = (&version["schema"]["openAPIV3Schema"], at.child("schema").child("openAPIV3Schema"));
        if schema.is_null() {
            errors.push(Error::required(&at, "schemas are required"));
        } else if schema["type"] != "object" {
            let why = "must be object at the root";
            errors.push(Error::invalid(&at.child("type"), schema["type"].clone(), why));
        } else {
            check_schema(schema, &at, errors);
        }
    }
}

/// What makes a schema structural.
fn check_schema(schema: &Value, path: &Path, errors: &mut Errors) {
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true || schema["x-kubernetes-int-or-string"] == true;
    if schema["type"].as_str().unwrap_or_default().is_empty() && !open {
        errors.push(Error::required(&path.child("type"), "must not be empty for specified object fields"));
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if schema["additionalProperties"] != false
        && !schema["additionalProperties"].is_null()
        && schema["properties"].as_object().is_some_and(|it| !it.is_empty())
    {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(Error::forbidden(&path.child("additionalProperties"), why));
    }
    if schema["uniqueItems"] == true {
        errors.push(Error::forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, why));
    }
    for (at, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        let (text, at) = (rule["rule"].as_str().unwrap_or_default(), path.child("x-kubernetes-validations").index(at));
        if text.trim().is_empty() {
            errors.push(Error::required(&at.child("rule"), "rule is not specified"));
        } else if let Err(why) = cel::Program::compile(text, super::validate::RULE) {
            errors.push(Error::invalid(&at.child("rule"), text, why));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check_schema(property, &path.child("properties").key(name), errors);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            check_schema(&schema[below], &path.child(below), errors);
        }
    }
}

/// The definition's status as it is to be, beside `others` of its group that were there before: their names are taken.
/// `now` is when a condition changes that does.
pub fn status(definition: &Value, others: &[&Value], now: &str) -> Value {
    let names = &definition["spec"]["names"];
    let conflict = taken(names, others);
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let accepted = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some(why) => ("False", "NamesConflict", why.clone()),
    };
    if conflict.is_none() {
        status["acceptedNames"] = names.clone();
    }
    let established = match conflict {
        None => ("True", "InitialNamesAccepted", "the initial names have been accepted".to_owned()),
        Some(_) => ("False", "NotAccepted", "not all names are accepted".to_owned()),
    };
    for (name, (value, reason, message)) in [("NamesAccepted", accepted), ("Established", established)] {
        // once established, always established
        if !(name == "Established" && value == "False" && holds(definition, "Established")) {
            set(&mut status, name, value, reason, &message, now);
        }
    }
    store_versions(&mut status, definition);
    status
}

pub fn holds(definition: &Value, condition: &str) -> bool {
    let mut all = definition["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|it| it["type"] == condition && it["status"] == "True")
}

fn store_versions(status: &mut Value, definition: &Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let storage = versions.filter(|version| version["storage"] == true).map(|version| version["name"].clone());
    let mut stored = status["storedVersions"].as_array().cloned().unwrap_or_default();
    for version in storage {
        if !stored.contains(&version) {
            stored.push(version);
        }
    }
    status["storedVersions"] = stored.into();
}

fn set(status: &mut Value, name: &str, value: &str, reason: &str, message: &str, now: &str) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(all) = status["conditions"].as_array_mut() else { return };
    let made = json!({
        "type": name, "status": value, "lastTransitionTime": now, "reason": reason, "message": message,
    });
    match all.iter_mut().find(|it| it["type"] == name) {
        Some(there) if there["status"] == value => {
            there["reason"] = reason.into();
            there["message"] = message.into();
        }
        Some(there) => *there = made,
        None => all.push(made),
    }
}

/// Which of the names somebody else has.
fn taken(names: &Value, others: &[&Value]) -> Option<String> {
    let accepted = |other: &Value, fields: &[&str], name: &str| {
        let own = &other["status"]["acceptedNames"];
        fields.iter().any(|field| own[*field] == name)
            || fields.contains(&"plural")
                && own["shortNames"].as_array().is_some_and(|it| it.iter().any(|it| it == name))
    };
    let mut wanted: Vec<(&[&str], &str)> = vec![
        (&["plural", "singular"], names["plural"].as_str().unwrap_or_default()),
        (&["plural", "singular"], names["singular"].as_str().unwrap_or_default()),
        (&["kind", "listKind"], names["kind"].as_str().unwrap_or_default()),
        (&["kind", "listKind"], names["listKind"].as_str().unwrap_or_default()),
    ];
    let short = names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    wanted.extend(short.map(|name| (&["plural", "singular"] as &[&str], name)));
    let mut wanted = wanted.into_iter().filter(|(_, name)| !name.is_empty());
    let found = wanted.find(|(fields, name)| others.iter().any(|other| accepted(other, fields, name)));
    found.map(|(_, name)| format!("{name:?} is already in use"))
}
