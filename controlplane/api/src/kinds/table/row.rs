//! What most rows have in common.
//!
//! Must not know: any kind.

use crate::kinds::{Hooks, Kind, Subresource};

/// The verbs of a resource that is stored.
const STORED: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A namespaced, stored resource without subresources; its hooks are filled in when the table is made.
pub(super) const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: STORED,
        subresources: &[],
        storage: (group, version, plural),
        hooks: Hooks::NONE,
        custom: None,
    }
}

pub(super) const fn subresource(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group, version, kind, verbs }
}

pub(super) const fn status(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    subresource("status", group, version, kind, &["get", "patch", "update"])
}

pub(super) const SCALE: Subresource = subresource("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"]);
