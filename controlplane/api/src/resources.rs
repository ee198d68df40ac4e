//! What a pod's containers ask for together, exact.
//!
//! Must not know: nodes, or who asks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::quantity::Quantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Quantities as numbers; what is none, which validation lets nobody store, is left out.
pub fn amounts(list: Option<&BTreeMap<String, Written>>) -> Amounts {
    let pairs = list.into_iter().flatten();
    pairs.filter_map(|(name, written)| Some((name.clone(), Quantity::try_from(written).ok()?))).collect()
}

/// As an object has them.
pub fn written(amounts: &Amounts) -> BTreeMap<String, Written> {
    amounts.iter().map(|(name, amount)| (name.clone(), amount.written())).collect()
}

pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_insert(Quantity::ZERO);
        *sum = sum.plus(amount);
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let most = total.entry(name.clone()).or_insert(*amount);
        if *amount > *most {
            *most = *amount;
        }
    }
}

/// A pod's requests without overhead: the larger of what its containers and sidecars need together and what any init
/// container needs beside the sidecars before it; what the pod asks for as a whole counts instead.
/// Source: `k8s.io/component-helpers/resource`.
pub fn requests(spec: &PodSpec) -> Amounts {
    total(spec, |resources| amounts(resources.requests.as_ref()))
}

/// As [`requests`], of the limits.
pub fn limits(spec: &PodSpec) -> Amounts {
    total(spec, |resources| amounts(resources.limits.as_ref()))
}

/// The requests with the overhead of the pod's runtime class.
pub fn requests_with_overhead(spec: &PodSpec) -> Amounts {
    let mut total = requests(spec);
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

/// The limits with the overhead; what is unlimited stays so.
pub fn limits_with_overhead(spec: &PodSpec) -> Amounts {
    let mut total = limits(spec);
    for (name, overhead) in amounts(spec.overhead.as_ref()) {
        if let Some(limit) = total.get_mut(&name) {
            *limit = limit.plus(&overhead);
        }
    }
    total
}

/// The spec with what its containers hold: during a resize the larger of what is asked and what its node gave them, and
/// of a resize that cannot be, nothing. None without a spec. Source: `PodResourcesOptions.UseStatusResources` there.
pub fn held(pod: &Pod) -> Option<Cow<'_, PodSpec>> {
    let mut spec = Cow::Borrowed(pod.spec.as_ref()?);
    let Some(status) = &pod.status else { return Some(spec) };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let infeasible =
        conditions.iter().any(|one| one.type_ == "PodResizePending" && one.reason.as_deref() == Some("Infeasible"));
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    for (name, given) in statuses.filter_map(|one| Some((&one.name, given(one)?))) {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let asked = containers.filter(|one| one.name == *name).find_map(|one| one.resources.as_ref());
        if asked.is_none_or(|asked| asked.requests == given.requests && asked.limits == given.limits) {
            continue;
        }
        let spec = spec.to_mut();
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for container in containers.filter(|one| one.name == *name) {
            let asked = container.resources.take().filter(|_| !infeasible).unwrap_or_default();
            let larger = |one: &List, other: &List| {
                let mut most = amounts(one.as_ref());
                raise(&mut most, &amounts(other.as_ref()));
                (one.is_some() || other.is_some()).then(|| written(&most))
            };
            container.resources = Some(ResourceRequirements {
                requests: larger(&asked.requests, &given.requests),
                limits: larger(&asked.limits, &given.limits),
                claims: asked.claims,
            });
        }
    }
    Some(spec)
}

type List = Option<BTreeMap<String, Written>>;

/// What a kubelet says that a container has and is to have.
fn given(status: &ContainerStatus) -> Option<ResourceRequirements> {
    let mut given = status.resources.clone()?;
    let mut requests = amounts(given.requests.as_ref());
    raise(&mut requests, &amounts(status.allocated_resources.as_ref()));
    given.requests = given.requests.is_some().then(|| written(&requests));
    Some(given)
}

fn total(spec: &PodSpec, read: impl Fn(&ResourceRequirements) -> Amounts) -> Amounts {
    let of = |container: &Container| container.resources.as_ref().map(&read).unwrap_or_default();
    let (mut running, mut starting, mut sidecars) = (Amounts::new(), Amounts::new(), Amounts::new());
    spec.containers.iter().for_each(|container| add(&mut running, &of(container)));
    for container in spec.init_containers.iter().flatten() {
        let mut at_once = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &at_once);
            add(&mut sidecars, &at_once);
            at_once.clone_from(&sidecars);
        } else {
            add(&mut at_once, &sidecars);
        }
        raise(&mut starting, &at_once);
    }
    raise(&mut running, &starting);
    let whole = spec.resources.as_ref().map(read).unwrap_or_default();
    running.extend(whole.into_iter().filter(|(name, _)| is_of_whole_pod(name)));
    running
}

/// What can be asked for the pod as a whole.
fn is_of_whole_pod(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sidecars_run_beside_all_that_starts_after_them() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "200m"}}},
            ],
            "overhead": {"cpu": "10m", "memory": "1Mi"},
        }))
        .unwrap();
        let shown =
            |amounts: Amounts| amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>();
        assert_eq!(shown(requests(&spec)), ["cpu=250m"]);
        assert_eq!(shown(requests_with_overhead(&spec)), ["cpu=260m", "memory=1Mi"]);
        assert!(limits_with_overhead(&spec).is_empty());
    }

    #[test]
    fn a_pod_that_is_resized_holds_the_larger_until_it_is_done() {
        let pod = |asked: &str, given: &str, reason: &str| -> Pod {
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": asked}}}]},
                "status": {
                    "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                    "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                        "allocatedResources": {"cpu": given}, "resources": {"requests": {"cpu": given}}}],
                },
            }))
            .unwrap()
        };
        let held = |pod: Pod| requests(&super::held(&pod).unwrap())["cpu"].to_string();
        assert_eq!(held(pod("2", "1", "Deferred")), "2");
        assert_eq!(held(pod("1", "2", "Deferred")), "2");
        assert_eq!(held(pod("9", "1", "Infeasible")), "1");
    }
}
