//! Label keys of affinity terms and spread constraints, resolved when a pod is made: "pods with the same value of
//! this label as mine" becomes an ordinary selector, which is all that the scheduler looks at.
//!
//! Must not know: nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::fill;

type Labels = BTreeMap<String, String>;

pub(super) fn resolve(pod: &mut core::Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    if let Some(affinity) = &mut spec.affinity {
        let near = affinity.pod_affinity.iter_mut().flat_map(|affinity| {
            let preferred = fill::each(&mut affinity.preferred_during_scheduling_ignored_during_execution);
            let preferred = preferred.map(|weighted| &mut weighted.pod_affinity_term);
            preferred.chain(fill::each(&mut affinity.required_during_scheduling_ignored_during_execution))
        });
        let far = affinity.pod_anti_affinity.iter_mut().flat_map(|affinity| {
            let preferred = fill::each(&mut affinity.preferred_during_scheduling_ignored_during_execution);
            let preferred = preferred.map(|weighted| &mut weighted.pod_affinity_term);
            preferred.chain(fill::each(&mut affinity.required_during_scheduling_ignored_during_execution))
        });
        near.chain(far).for_each(|term| resolve_term(term, &labels));
    }
    for constraint in fill::each(&mut spec.topology_spread_constraints) {
        if let (Some(selector), Some(keys)) = (&mut constraint.label_selector, &constraint.match_label_keys) {
            add(selector, keys, "In", &labels);
        }
    }
}

fn resolve_term(term: &mut core::PodAffinityTerm, labels: &Labels) {
    let Some(selector) = &mut term.label_selector else { return };
    add(selector, term.match_label_keys.as_deref().unwrap_or_default(), "In", labels);
    add(selector, term.mismatch_label_keys.as_deref().unwrap_or_default(), "NotIn", labels);
}

fn add(selector: &mut LabelSelector, keys: &[String], operator: &str, labels: &Labels) {
    let with_value = keys.iter().filter_map(|key| Some((key, labels.get(key)?)));
    let requirements: Vec<LabelSelectorRequirement> = with_value
        .map(|(key, value)| LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        })
        .collect();
    if !requirements.is_empty() {
        selector.match_expressions.get_or_insert_default().extend(requirements);
    }
}
