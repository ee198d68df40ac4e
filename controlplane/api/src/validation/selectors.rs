//! `metav1.LabelSelector` fields.
//!
//! Must not know: what is selected.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{meta, names};
use crate::field::{Error, Errors, Path};
use crate::selector;

pub(crate) fn label_selector(selector: &LabelSelector, path: &Path, errors: &mut Errors) {
    let pairs = selector.match_labels.iter().flatten();
    meta::labels(pairs.map(|(k, v)| (k.as_str(), v.as_str())), &path.child("matchLabels"), errors);
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        expression(requirement, &path.child("matchExpressions").index(i), errors);
    }
}

fn expression(requirement: &LabelSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path.child("values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    super::invalid(names::qualified_name(&requirement.key), &requirement.key, &path.child("key"), errors);
    for (i, value) in values.iter().enumerate() {
        super::invalid(names::label_value(value), value, &path.child("values").index(i), errors);
    }
}

pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether labels meet a selector; a selector that cannot be parsed is somebody else's error.
pub(crate) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Option<bool> {
    selector::LabelSelector::from_metav1(Some(selector)).ok().map(|selector| selector.matches(labels))
}
