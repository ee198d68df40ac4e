//! Pods against quotas: counts, requests, limits, scopes, and what every container must say.
//!
//! Must not know: other kinds.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, PodAffinityTerm, ScopedResourceSelectorRequirement};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{one, selected};
use crate::kinds::pod_qos;
use crate::resources::{self, Amounts, amounts};

const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Where a quota has one of these, every container must say how much it takes.
const MUST_SAY: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";

pub fn concerns(name: &str) -> bool {
    let requested = name.strip_prefix(REQUESTS);
    NAMES.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || requested.is_some_and(|name| name.starts_with(HUGE_PAGES) || is_extended(name))
}

/// With a domain that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// A pod that has ended, or whose grace is over, takes up nothing but its place among the objects.
pub fn is_counted(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return false;
    }
    let (deleted, grace) = (&pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds);
    match (deleted, grace) {
        (Some(deleted), Some(grace)) => now <= deleted.0 + SignedDuration::from_secs(grace),
        _ => true,
    }
}

pub fn usage(pod: &Pod, now: Timestamp) -> Amounts {
    let mut used = Amounts::from([("count/pods".to_owned(), one())]);
    if let Some(spec) = resources::held(pod).filter(|_| is_counted(pod, now)) {
        used.extend(by_quota_name(&resources::requests_with_overhead(&spec), &resources::limits_with_overhead(&spec)));
    }
    used
}

/// Requests and limits under the names that quotas have for them.
fn by_quota_name(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), one())]);
    for (name, amount) in requests {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => drop(used.insert(name.clone(), *amount)),
            huge if huge.starts_with(HUGE_PAGES) => drop(used.insert(name.clone(), *amount)),
            extended if is_extended(extended) => {}
            _ => continue,
        }
        used.insert(format!("{REQUESTS}{name}"), *amount);
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

/// What containers leave unsaid that the quota's `restricted` names demand, in upstream's words.
pub fn constraints(pod: &Pod, restricted: &[&str]) -> Result<(), String> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let whole = spec.resources.as_ref();
    if whole.is_some_and(|whole| whole.requests.is_some() || whole.limits.is_some()) {
        return Ok(());
    }
    let demanded: Vec<&str> = restricted.iter().copied().filter(|name| MUST_SAY.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let said = said(container);
        for name in demanded.iter().filter(|name| !said.contains_key(**name)) {
            missing.entry(name).or_default().insert(&container.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(",");
    let lines: Vec<String> =
        missing.iter().map(|(name, containers)| format!("{name} for: {}", list(containers))).collect();
    Err(format!("must specify {}", lines.join("; ")))
}

fn said(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let requests = amounts(resources.and_then(|resources| resources.requests.as_ref()));
    let limits = amounts(resources.and_then(|resources| resources.limits.as_ref()));
    by_quota_name(&requests, &limits)
}

/// It ends by itself.
pub fn has_deadline(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0)
}

pub fn is_in_scope(pod: &Pod, scope: &ScopedResourceSelectorRequirement) -> bool {
    let best_effort = || pod.spec.as_ref().is_none_or(|spec| pod_qos(spec) == "BestEffort");
    match scope.scope_name.as_str() {
        "Terminating" => has_deadline(pod),
        "NotTerminating" => !has_deadline(pod),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
            selected(scope, class.filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether any term of its pod affinity looks beyond its own namespace.
fn crosses_namespaces(pod: &Pod) -> bool {
    let crosses = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    };
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return false };
    let near = affinity.pod_affinity.iter().any(|one| {
        one.required_during_scheduling_ignored_during_execution.iter().flatten().any(crosses)
            || one
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .any(|it| crosses(&it.pod_affinity_term))
    });
    near || affinity.pod_anti_affinity.iter().any(|one| {
        one.required_during_scheduling_ignored_during_execution.iter().flatten().any(crosses)
            || one
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .any(|it| crosses(&it.pod_affinity_term))
    })
}
