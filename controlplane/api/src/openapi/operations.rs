//! One operation of a path, before it is written in either version of OpenAPI.
//!
//! Must not know: how it is written.

use crate::facts::Type;

/// `(name, type)` of a query parameter.
pub(super) type Parameter = (&'static str, &'static str);

pub(super) struct Path {
    pub path: String,
    /// `name`, `namespace`, `path`: what the path has in braces.
    pub places: Vec<&'static str>,
    /// Query parameters of all its operations.
    pub parameters: Vec<Parameter>,
    pub operations: Vec<Operation>,
}

pub(super) struct Operation {
    /// `get`, `post`, …
    pub method: &'static str,
    pub id: String,
    pub tag: String,
    /// `x-kubernetes-action`; empty for discovery.
    pub action: &'static str,
    pub parameters: Vec<Parameter>,
    pub body: Body,
    pub answer: Answer,
    pub codes: &'static [(&'static str, &'static str)],
    /// Group, version and kind the operation is about.
    pub about: Option<(&'static str, &'static str, &'static str)>,
}

#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    Object(&'static Type),
    /// May be left out.
    Options(&'static Type),
    Patch,
}

#[derive(Clone, Copy)]
pub(super) enum Answer {
    Object(&'static Type),
    /// A list, which can be watched too.
    Stream(&'static Type),
    /// Whatever is behind the connection.
    Text,
}

pub(super) const OK: (&str, &str) = ("200", "OK");
pub(super) const CREATED: (&str, &str) = ("201", "Created");
pub(super) const ACCEPTED: (&str, &str) = ("202", "Accepted");
pub(super) const UNAUTHORIZED: (&str, &str) = ("401", "Unauthorized");

pub(super) const PRETTY: Parameter = ("pretty", "string");
const DRY_RUN: Parameter = ("dryRun", "string");
const MANAGER: Parameter = ("fieldManager", "string");
const VALIDATION: Parameter = ("fieldValidation", "string");

pub(super) const WRITE: &[Parameter] = &[DRY_RUN, MANAGER, VALIDATION];
pub(super) const PATCH: &[Parameter] = &[DRY_RUN, MANAGER, VALIDATION, ("force", "boolean")];
pub(super) const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
pub(super) const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
