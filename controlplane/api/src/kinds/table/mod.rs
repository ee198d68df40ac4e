//! The rows of the kind table, and how to find one.
//!
//! Must not know: how a verb is carried out.

mod core;
mod groups;
mod row;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Kind;

/// Groups in the order upstream lists them in `/apis`, a group's preferred version first.
const ROWS: &[&[Kind]] = &[
    core::CORE,
    groups::APIREGISTRATION,
    groups::APPS,
    groups::EVENTS,
    groups::AUTHENTICATION,
    groups::AUTHORIZATION,
    groups::AUTOSCALING_V2,
    groups::AUTOSCALING_V1,
    groups::BATCH,
    groups::CERTIFICATES,
    groups::NETWORKING,
    groups::POLICY,
    groups::RBAC,
    groups::STORAGE,
    groups::ADMISSIONREGISTRATION,
    groups::APIEXTENSIONS,
    groups::SCHEDULING,
    groups::COORDINATION,
    groups::NODE,
    groups::DISCOVERY,
    groups::RESOURCE,
    groups::FLOWCONTROL,
];

static ALL: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let rows = ROWS.iter().flat_map(|rows| rows.iter());
    rows.map(|row| Kind { hooks: super::rules::of(row), ..row.clone() }).collect()
});

type Index = HashMap<(&'static str, &'static str, &'static str), &'static Kind>;

static BY_PLURAL: LazyLock<Index> =
    LazyLock::new(|| all().iter().map(|k| ((k.group, k.version, k.plural), k)).collect());

static BY_KIND: LazyLock<Index> = LazyLock::new(|| all().iter().map(|k| ((k.group, k.version, k.kind), k)).collect());

/// Every kind of every GA group and version of Kubernetes 1.36; groups in upstream's order, a group's preferred
/// version first, kinds by plural.
pub fn all() -> &'static [Kind] {
    &ALL
}

/// The kind behind a URL; the core group is `""`.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    BY_PLURAL.get(&(group, version, plural)).copied()
}

/// The kind of an object; the core group is `""`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    BY_KIND.get(&(group, version, kind)).copied()
}
