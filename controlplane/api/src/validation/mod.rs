//! Checks of objects, with upstream's field paths and words. What holds for every kind is in `meta`; the rules of
//! kinds call the rest.
//!
//! Must not know: how a verb is carried out.

pub mod api_services;
pub mod cluster;
pub mod core;
pub mod extensions;
pub mod meta;
pub mod names;
pub mod network;
pub mod pod;
pub mod policies;
pub mod resources;
pub mod selectors;
pub mod services;
pub mod workloads;

use k8s_openapi::serde::Serialize;
use serde_json::Value;

use crate::field::{Error, Errors, Path};

pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Adds an error for each of what is wrong with a value.
pub(crate) fn invalid(problems: names::Problems, bad: &str, path: &Path, errors: &mut Errors) {
    errors.extend(problems.into_iter().map(|problem| Error::invalid(path, bad, problem)));
}

/// As [`invalid`], for numbers.
pub(crate) fn invalid_number(problems: names::Problems, bad: i64, path: &Path, errors: &mut Errors) {
    errors.extend(problems.into_iter().map(|problem| Error::invalid(path, bad, problem)));
}

pub(crate) fn nonnegative(value: Option<i64>, path: &Path, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| *value < 0) {
        errors.push(Error::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// A text that must be there and be one of a few.
pub(crate) fn one_of(value: &str, supported: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !supported.contains(&value) {
        errors.push(Error::not_supported(path, value, supported));
    }
}

/// A text that must be there.
pub(crate) fn required(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    }
}

/// A field that only creation may set.
pub(crate) fn immutable<T: PartialEq + Serialize>(new: &T, old: &T, path: &Path, errors: &mut Errors) {
    if new != old {
        errors.push(Error::invalid(path, shown(new), IMMUTABLE));
    }
}

/// A bad value as errors show it.
pub(crate) fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// The text of an optional field: empty where absent.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}
