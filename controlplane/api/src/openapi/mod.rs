//! OpenAPI, version 3 and 2, generated from the facts and the kind table: what `kubectl explain`, `apply`, `diff` and
//! validation, and client generators, read.
//!
//! Names, structure and extensions are upstream's; its sentences are not here.
//!
//! Must not know: aggregated APIs, whose documents others add.

pub(crate) mod descriptions;
pub mod gnostic;
mod operations;
mod paths;
mod render;
mod schema;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::custom;
use crate::facts::Type;
use crate::kinds::{self, Kind};

/// Which OpenAPI is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// The document at a path of the API server: `/openapi/v2`, `/openapi/v3`, `/openapi/v3/apis/apps/v1`. Documents are
/// made when asked for, in some tens of milliseconds, and not kept: clients keep them by the hash of the index.
pub fn document(path: &str) -> Option<Value> {
    match path.strip_prefix("/openapi/")?.trim_end_matches('/') {
        "v2" => Some(v2(&[])),
        "v3" => Some(v3_index(&[])),
        below => v3(below.strip_prefix("v3/")?, &[]),
    }
}

/// The document of `/openapi/v3`: where each group and version has its own. The hashes change with this program.
pub fn v3_index(custom: &[&'static Kind]) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions() {
        let path = root(group, version);
        let hash = hash(&path);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    for kind in custom {
        let path = root(kind.group, kind.version);
        let own = custom.iter().filter(|it| (it.group, it.version) == (kind.group, kind.version));
        let hash = hash(&own.map(|it| format!("{it:?}")).collect::<String>());
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// The document of one group and version, as `api/v1` or `apis/apps/v1`; None where nothing of it is served.
pub fn v3(group_version: &str, custom: &[&'static Kind]) -> Option<Value> {
    let own: Vec<&'static Kind> =
        custom.iter().copied().filter(|kind| root(kind.group, kind.version) == group_version).collect();
    if !own.is_empty() {
        return Some(v3_custom(&own));
    }
    let (group, version) =
        group_versions().into_iter().find(|(group, version)| root(group, version) == group_version)?;
    let kinds: Vec<&Kind> = kinds_of(group, version).collect();
    let paths = paths::all(group, version, &kinds);
    let rendered: Map<String, Value> = paths.iter().map(|path| (path.path.clone(), render::v3_path(path))).collect();
    let schemas = schema::definitions(&paths::types(&paths), Dialect::V3, &|ty| kinds_to_name(ty, &[(group, version)]));
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": rendered,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "BearerToken": { "type": "apiKey", "name": "authorization", "in": "header",
                "description": "A bearer token in the Authorization header" } },
        },
    }))
}

/// The document of one group and version of custom resources.
fn v3_custom(kinds: &[&'static Kind]) -> Value {
    let refer = |name: &str| schema::reference(name, Dialect::V3);
    let shared: Vec<&'static Type> =
        ["Status", "DeleteOptions"].into_iter().filter_map(|name| crate::facts::type_of("", "v1", name)).collect();
    let metadata = ["ObjectMeta", "ListMeta"].into_iter().filter_map(|it| crate::facts::type_named("meta/v1", it));
    let roots: Vec<&'static Type> = shared.into_iter().chain(metadata).collect();
    let mut schemas = schema::definitions(&roots, Dialect::V3, &|ty| kinds_to_name(ty, &[]));
    let mut rendered = Map::new();
    for kind in kinds {
        schemas.extend(custom::openapi::definitions(kind, &refer, false));
        rendered.extend(custom::openapi::paths(kind, &refer, false));
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes CRD Swagger", "version": "v0.1.0" },
        "paths": rendered,
        "components": { "schemas": schemas },
    })
}

/// Names the content of [`v2`], for clients that have it already; `others` names what is added to it.
pub fn v2_hash(custom: &[&'static Kind], others: &str) -> String {
    hash(&custom.iter().map(|it| format!("{it:?}")).chain([others.to_owned()]).collect::<String>())
}

/// The one document of `/openapi/v2`.
pub fn v2(custom: &[&'static Kind]) -> Value {
    let all = group_versions();
    let mut rendered = Map::new();
    let mut types = Vec::new();
    for (group, version) in &all {
        let kinds: Vec<&Kind> = kinds_of(group, version).collect();
        let paths = paths::all(group, version, &kinds);
        rendered.extend(paths.iter().map(|path| (path.path.clone(), render::v2_path(path))));
        types.extend(paths::types(&paths));
    }
    let refer = |name: &str| schema::reference(name, Dialect::V2);
    let mut definitions = schema::definitions(&types, Dialect::V2, &|ty| kinds_to_name(ty, &all));
    for kind in custom {
        definitions.extend(crate::custom::openapi::definitions(kind, &refer, true));
        rendered.extend(crate::custom::openapi::paths(kind, &refer, true));
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": rendered,
        "definitions": definitions,
        "securityDefinitions": { "BearerToken": { "type": "apiKey", "name": "authorization", "in": "header",
            "description": "A bearer token in the Authorization header" } },
        "security": [{ "BearerToken": [] }],
    })
}

/// Every served group and version, once, in the order of the kind table.
fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut seen = BTreeSet::new();
    kinds::all().iter().map(|kind| (kind.group, kind.version)).filter(|pair| seen.insert(*pair)).collect()
}

fn kinds_of(group: &'static str, version: &'static str) -> impl Iterator<Item = &'static Kind> {
    kinds::all().iter().filter(move |kind| kind.group == group && kind.version == version)
}

/// `api/v1`, `apis/apps/v1`.
pub(crate) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The groups and versions in which a type is a kind, as `x-kubernetes-group-version-kind` lists them.
fn kinds_to_name(ty: &crate::facts::Type, served: &[(&str, &str)]) -> Vec<Value> {
    let named = |group: &str, version: &str| json!({ "group": group, "version": version, "kind": ty.name });
    match (ty.package.group, ty.name) {
        // options and events of every group; the core group has them always
        ("meta.k8s.io", "DeleteOptions" | "WatchEvent") => {
            let mut all: BTreeSet<(&str, &str)> = served.iter().copied().collect();
            all.insert(("", "v1"));
            all.into_iter().map(|(group, version)| named(group, version)).collect()
        }
        ("meta.k8s.io", _) => vec![named("", "v1")],
        (group, _) => vec![named(group, ty.package.version)],
    }
}

/// Names the content of a document: it is made of the facts and of this program alone.
fn hash(path: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(crate::facts::fingerprint());
    hasher.update(env!("CARGO_PKG_VERSION"));
    hasher.update(path);
    hasher.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}
