//! Affinity to nodes and to other pods.
//!
//! Must not know: nodes.

use k8s_openapi::api::core::v1 as core;

use super::super::{invalid, names, selectors};
use crate::field::{Error, Errors, Path};

pub(super) fn affinity(affinity: &core::Affinity, path: &Path, errors: &mut Errors) {
    if let Some(node) = &affinity.node_affinity {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    if let Some(near) = &affinity.pod_affinity {
        let at = path.child("podAffinity");
        terms(&near.required_during_scheduling_ignored_during_execution, &at, errors);
        weighted(&near.preferred_during_scheduling_ignored_during_execution, &at, errors);
    }
    if let Some(far) = &affinity.pod_anti_affinity {
        let at = path.child("podAntiAffinity");
        terms(&far.required_during_scheduling_ignored_during_execution, &at, errors);
        weighted(&far.preferred_during_scheduling_ignored_during_execution, &at, errors);
    }
}

fn required_path(path: &Path) -> Path {
    path.child("requiredDuringSchedulingIgnoredDuringExecution")
}

fn preferred_path(path: &Path) -> Path {
    path.child("preferredDuringSchedulingIgnoredDuringExecution")
}

fn node_affinity(affinity: &core::NodeAffinity, path: &Path, errors: &mut Errors) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let at = required_path(path).child("nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            errors.push(Error::required(&at, "must have at least one node selector term"));
        }
        for (i, term) in required.node_selector_terms.iter().enumerate() {
            node_term(term, &at.index(i), errors);
        }
    }
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (i, preferred) in preferred.enumerate() {
        let at = preferred_path(path).index(i);
        weight(preferred.weight, &at, errors);
        node_term(&preferred.preference, &at.child("preference"), errors);
    }
}

fn weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_term(term: &core::NodeSelectorTerm, path: &Path, errors: &mut Errors) {
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_label(requirement, &path.child("matchExpressions").index(i), errors);
    }
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field(requirement, &path.child("matchFields").index(i), errors);
    }
}

fn node_label(requirement: &core::NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let (at, count) = (path.child("values"), requirement.values.as_ref().map_or(0, Vec::len));
    match requirement.operator.as_str() {
        "In" | "NotIn" if count == 0 => {
            errors.push(Error::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            errors.push(Error::forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if count != 1 => {
            errors.push(Error::required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    invalid(names::qualified_name(&requirement.key), &requirement.key, &path.child("key"), errors);
}

fn node_field(requirement: &core::NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let count = requirement.values.as_ref().map_or(0, Vec::len);
    match requirement.operator.as_str() {
        "In" | "NotIn" if count != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&path.child("values"), detail));
        }
        "In" | "NotIn" => {}
        other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
    }
    if requirement.key != "metadata.name" {
        let key = requirement.key.as_str();
        errors.push(Error::invalid(&path.child("key"), key, "not a valid field selector key"));
    }
}

fn terms(terms: &Option<Vec<core::PodAffinityTerm>>, path: &Path, errors: &mut Errors) {
    for (i, term) in terms.iter().flatten().enumerate() {
        pod_term(term, &required_path(path).index(i), errors);
    }
}

fn weighted(terms: &Option<Vec<core::WeightedPodAffinityTerm>>, path: &Path, errors: &mut Errors) {
    for (i, term) in terms.iter().flatten().enumerate() {
        let at = preferred_path(path).index(i);
        weight(term.weight, &at, errors);
        pod_term(&term.pod_affinity_term, &at.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &core::PodAffinityTerm, path: &Path, errors: &mut Errors) {
    for (field, selector) in [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            selectors::label_selector(selector, &path.child(field), errors);
        }
    }
    for namespace in term.namespaces.iter().flatten() {
        invalid(names::dns1123_label(namespace), namespace, &path.child("namespace"), errors);
    }
    let at = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.push(Error::required(&at, "can not be empty"));
    }
    invalid(names::qualified_name(&term.topology_key), &term.topology_key, &at, errors);
}
