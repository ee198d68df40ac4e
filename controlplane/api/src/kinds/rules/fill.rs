//! Filling in what a client left out.
//!
//! Must not know: any kind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::quantity::Quantity;

/// Sets an absent or empty text: in Go's types, and so for clients, the two are the same.
pub(super) fn text(slot: &mut Option<String>, value: &str) {
    if slot.as_deref().unwrap_or_default().is_empty() {
        *slot = Some(value.to_owned());
    }
}

/// Sets an absent value.
pub(super) fn value<T>(slot: &mut Option<T>, value: T) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

/// Sets an absent or zero number.
pub(super) fn number(slot: &mut Option<i32>, value: i32) {
    if slot.unwrap_or(0) == 0 {
        *slot = Some(value);
    }
}

pub(super) fn int(value: i32) -> IntOrString {
    IntOrString::Int(value)
}

pub(super) fn percent(value: &str) -> IntOrString {
    IntOrString::String(value.to_owned())
}

/// The elements of an optional list.
pub(super) fn each<T>(list: &mut Option<Vec<T>>) -> std::slice::IterMut<'_, T> {
    list.as_deref_mut().unwrap_or_default().iter_mut()
}

pub(super) type Resources = BTreeMap<String, Written>;

/// Quantities in their canonical spelling, rounded up to thousandths (upstream's `SetDefaults_ResourceList`).
pub(super) fn resources(list: &mut Option<Resources>) {
    for written in list.iter_mut().flat_map(BTreeMap::values_mut) {
        // what is no quantity is for validation to name
        if let Ok(quantity) = written.0.parse::<Quantity>() {
            *written = quantity.rounded_to_milli().written();
        }
    }
}

/// Adds to `list` what it lacks of `from`.
pub(super) fn missing(list: &mut Option<Resources>, from: &Resources) {
    if from.is_empty() {
        return;
    }
    let list = list.get_or_insert_default();
    for (name, quantity) in from {
        list.entry(name.clone()).or_insert_with(|| quantity.clone());
    }
}
