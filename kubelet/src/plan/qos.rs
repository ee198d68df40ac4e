//! QoS classes and the OOM score that follows from them. Source: upstream's qos and pod helper packages.
//!
//! Must not know: cgroups.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::pod;
use super::quantity::{milli, value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod, from cpu and memory of every container, init containers included.
pub fn class(pod: &Pod) -> Class {
    let Some(spec) = &pod.spec else { return Class::BestEffort };
    let pod_level = spec.resources.as_ref().filter(|resources| names_any(resources));
    let all: Vec<Option<&ResourceRequirements>> = match pod_level {
        Some(resources) => vec![Some(resources)],
        None => {
            let containers = spec.containers.iter().chain(pod::init_containers(spec));
            containers.map(|container| container.resources.as_ref()).collect()
        }
    };
    if !all.iter().flatten().any(|resources| names_any(resources)) {
        Class::BestEffort
    } else if all.iter().all(|resources| resources.is_some_and(is_guaranteed)) {
        Class::Guaranteed
    } else {
        Class::Burstable
    }
}

fn positive(resources: &ResourceRequirements, limits: bool, name: &str) -> i64 {
    let map = if limits { &resources.limits } else { &resources.requests };
    map.as_ref().and_then(|map| map.get(name)).map_or(0, milli)
}

fn names_any(resources: &ResourceRequirements) -> bool {
    let any = |limits| ["cpu", "memory"].iter().any(|name| positive(resources, limits, name) > 0);
    any(true) || any(false)
}

fn is_guaranteed(resources: &ResourceRequirements) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let (limit, request) = (positive(resources, true, name), positive(resources, false, name));
        limit > 0 && (request == limit || request == 0)
    })
}

/// The container's `oom_score_adj`: -997 guaranteed or critical, 1000 best effort, else by the share of memory asked.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= 2_000_000_000);
    match class(pod) {
        _ if critical || pod::is_static(pod) || pod::is_mirror(pod) => -997,
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let request = requests.and_then(|requests| requests.get("memory")).map_or(0, value);
            let score = 1000 - 1000_i64.saturating_mul(request) / node_memory.max(1);
            score.clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    #[test]
    fn classes_follow_requests_and_limits() {
        let of =
            |resources: &str| class(&pod(&format!("  containers: [{{name: a, image: i, resources: {resources}}}]\n")));
        assert_eq!(of("{}"), Class::BestEffort);
        assert_eq!(of("{requests: {cpu: 100m}}"), Class::Burstable);
        assert_eq!(of("{limits: {cpu: 1, memory: 1Gi}}"), Class::Guaranteed);
        assert_eq!(of("{limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m, memory: 1Gi}}"), Class::Burstable);
    }

    #[test]
    fn oom_scores_are_upstreams() {
        let pod = pod("  containers: [{name: a, image: i, resources: {requests: {memory: 1Gi}}}]\n");
        assert_eq!(oom_score_adj(&pod, &pod.spec.as_ref().unwrap().containers[0], 4 << 30), 750);
    }
}
