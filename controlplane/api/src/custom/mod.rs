//! Custom resources: what a CustomResourceDefinition makes of the kind table, and what its schemas do to objects.
//!
//! A served version becomes a row of the kind table that lives as long as the program; the same definition is the same
//! row again, and their number is bounded.
//!
//! Must not know: requests, stores, who may define resources.

mod columns;
pub mod conversion;
pub mod definition;
pub mod openapi;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::canonical;
use crate::facts::{self, Type};
use crate::field::{Errors, Path};
use crate::kinds::{Hooks, Kind, Subresource};

pub use columns::table;

/// How many versions of definitions one process takes in.
const MOST: usize = 4096;

/// What a version of a definition says beside the row of the kind table.
#[derive(Debug)]
pub struct Resource {
    pub list_kind: String,
    /// `openAPIV3Schema`; empty where there is none.
    schema: Value,
    compiled: validate::Compiled,
    /// `additionalPrinterColumns`.
    columns: Vec<Value>,
    /// As field selectors name them: `spec.host`.
    pub selectable: &'static [&'static str],
    /// `subresources.scale`, or null.
    pub scale: Value,
    /// What managed fields know of the kind: its metadata. The rest is deduced from values.
    pub ty: &'static Type,
    pub deprecation: Option<String>,
    /// Given where a webhook converts between versions.
    pub conversion: Option<conversion::Conversion>,
}

static KNOWN: LazyLock<Mutex<HashMap<String, &'static Kind>>> = LazyLock::new(Mutex::default);

/// The rows of the versions that `definition` serves.
///
/// # Errors
/// Where there are more definitions than this process takes in.
pub fn kinds(definition: &Value) -> Result<Vec<&'static Kind>, String> {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().into_iter().flatten();
    let storage = versions.clone().find(|version| version["storage"] == true);
    let storage = storage.map(|version| text(&version["name"])).unwrap_or_default();
    versions.filter(|version| version["served"] == true).map(|version| kind(spec, version, &storage)).collect()
}

fn kind(spec: &Value, version: &Value, storage: &str) -> Result<&'static Kind, String> {
    let key = json!([spec["group"], spec["names"], spec["scope"], spec["conversion"], version, storage]).to_string();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kind) = known.get(&key) {
        return Ok(kind);
    }
    if known.len() >= MOST {
        return Err(format!(
            "this server takes in no more than {MOST} versions of definitions until it is started anew"
        ));
    }
    let kind: &'static Kind = Box::leak(Box::new(row(spec, version, storage)));
    known.insert(key, kind);
    Ok(kind)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn leaked(value: &Value) -> &'static str {
    text(value).leak()
}

fn leaked_all(list: &Value) -> &'static [&'static str] {
    let all: Vec<&'static str> = list.as_array().into_iter().flatten().map(leaked).collect();
    all.leak()
}

const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const PART: &[&str] = &["get", "patch", "update"];

fn row(spec: &Value, version: &Value, storage: &str) -> Kind {
    let (names, group) = (&spec["names"], leaked(&spec["group"]));
    let (kind, plural, name) = (leaked(&names["kind"]), leaked(&names["plural"]), leaked(&version["name"]));
    let below = &version["subresources"];
    let mut subresources = Vec::new();
    if !below["status"].is_null() {
        subresources.push(Subresource { name: "status", group, version: name, kind, verbs: PART });
    }
    if !below["scale"].is_null() {
        subresources.push(Subresource {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: PART,
        });
    }
    let selectable: Vec<&'static str> = version["selectableFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|field| leaked(&field["jsonPath"]).trim_start_matches('.'))
        .collect();
    let resource = Resource {
        list_kind: text(&names["listKind"]),
        schema: version["schema"]["openAPIV3Schema"].clone(),
        compiled: validate::Compiled::of(&version["schema"]["openAPIV3Schema"]),
        columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        selectable: selectable.leak(),
        scale: below["scale"].clone(),
        ty: Box::leak(Box::new(facts::with_metadata(group, name, kind))),
        deprecation: (version["deprecated"] == true).then(|| {
            let usual = format!("{group}/{name} {kind} is deprecated");
            version["deprecationWarning"].as_str().map_or(usual, str::to_owned)
        }),
        conversion: conversion::Conversion::of(&spec["conversion"]),
    };
    Kind {
        group,
        version: name,
        kind,
        plural,
        singular: leaked(&names["singular"]),
        short_names: leaked_all(&names["shortNames"]),
        categories: leaked_all(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        verbs: VERBS,
        subresources: subresources.leak(),
        storage: (group, storage.to_owned().leak(), plural),
        hooks: Hooks::NONE,
        custom: Some(Box::leak(Box::new(resource))),
    }
}

impl Resource {
    /// Brings what a client sent into the form that is kept: metadata as every object has it, nothing that the schema
    /// does not know. Answers the paths of what was dropped, and what is wrong with the metadata.
    pub fn prune(&self, object: &mut Value) -> Result<Vec<String>, String> {
        let metadata = facts::type_named("meta/v1", "ObjectMeta");
        if let (Some(ty), Some(meta)) = (metadata, object.get_mut("metadata")) {
            canonical::canonicalize(meta, ty).map_err(|error| error.to_string())?;
        }
        Ok(schema::prune(object, &self.schema))
    }

    /// The paths of what is in an applied configuration and not in the schema.
    pub fn undeclared(&self, config: &Value) -> Vec<String> {
        let mut found = schema::prune(&mut config.clone(), &self.schema);
        let known = facts::type_named("meta/v1", "ObjectMeta");
        let fields = config["metadata"].as_object().into_iter().flatten();
        let unknown = fields.filter(|(name, _)| known.is_some_and(|ty| ty.field(name).is_none()));
        found.extend(unknown.map(|(name, _)| format!("metadata.{name}")));
        found
    }

    /// Fills in what the schema has defaults for.
    pub fn fill(&self, object: &mut Value) {
        schema::fill(object, &self.schema);
    }

    /// What is wrong with an object, or with its change.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Errors {
        let mut errors = Errors::new();
        validate::check(object, old, &self.schema, &self.compiled, &Path::default(), &mut errors);
        errors
    }

    /// The value at one of the paths of `scale`, such as `.spec.replicas`.
    pub fn at<'a>(&self, field: &str, object: &'a Value) -> &'a Value {
        let path = self.scale[field].as_str().unwrap_or_default();
        path.trim_start_matches('.').split('.').fold(object, |at, name| &at[name])
    }

    /// Writes the number of replicas where `scale` keeps it.
    pub fn set_replicas(&self, object: &mut Value, replicas: i64) {
        let path = self.scale["specReplicasPath"].as_str().unwrap_or_default().trim_start_matches('.').to_owned();
        let mut at = object;
        for name in path.split('.') {
            if !at[name].is_object() && !at[name].is_null() && !at[name].is_number() {
                return;
            }
            at = &mut at[name];
        }
        *at = replicas.into();
    }
}
