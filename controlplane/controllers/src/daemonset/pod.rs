//! A DaemonSet's pod: bound to its node by affinity, tolerating what nodes go through.
//!
//! Must not know: the API, clocks.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration};

use crate::history::HASH;
use crate::{owner, pod_control, pods};

/// Conditions of a node that must not drive daemons away, with the effect of their taint.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What the pod tolerates: what its template says, and what every daemon does.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let toleration = |(key, effect): (&str, &str)| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    };
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    let network = (spec.host_network == Some(true)).then_some(network);
    let mut all = spec.tolerations.clone().unwrap_or_default();
    for own in TOLERATED.into_iter().chain(network).map(toleration) {
        if !all.iter().any(|other| other.key == own.key && other.effect == own.effect && other.operator == own.operator)
        {
            all.push(own);
        }
    }
    all
}

/// A pod of the set for that node.
pub fn new(set: &DaemonSet, node: &str, hash: &str) -> Option<Pod> {
    let template = &set.spec.as_ref()?.template;
    let (namespace, name) = (set.metadata.namespace.as_deref()?, set.metadata.name.as_deref()?);
    let mut pod = pod_control::from_template(template, namespace, name, owner::controller_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.into());
    let generation =
        set.metadata.annotations.as_ref().and_then(|all| all.get("deprecated.daemonset.template.generation"));
    if let Some(generation) = generation {
        labels.insert("pod-template-generation".into(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    bind(spec, node);
    Some(pod)
}

/// Requires that very node; other required terms are replaced, since they were checked for it already.
fn bind(spec: &mut PodSpec, node: &str) {
    let field = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let mut terms =
        affinity.required_during_scheduling_ignored_during_execution.take().unwrap_or_default().node_selector_terms;
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
    }
    for own in &mut terms {
        own.match_fields.clone_from(&term.match_fields);
    }
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: terms });
}

/// The node that the pod runs on or is meant for.
pub fn target_node(pod: &Pod) -> Option<&str> {
    let bound = pods::node_name(pod);
    if !bound.is_empty() {
        return Some(bound);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let field =
        terms.iter().flat_map(|term| term.match_fields.iter().flatten()).find(|one| one.key == "metadata.name")?;
    field.values.as_ref()?.first().map(String::as_str)
}
