//! The quality-of-service class of a pod (`pkg/apis/core/helper/qos`).
//!
//! Must not know: cgroups.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use super::fill::Resources;
use crate::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`: of the pod's own resources where it has them, else of its containers'.
pub fn class(spec: &core::PodSpec) -> &'static str {
    if let Some(resources) = &spec.resources {
        return of([resources].into_iter().map(Some));
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    of(containers.map(|container| container.resources.as_ref()))
}

type Sums<'a> = BTreeMap<&'a str, Quantity>;

fn of<'a>(parts: impl Iterator<Item = Option<&'a core::ResourceRequirements>>) -> &'static str {
    let (mut requests, mut limits, mut all_limited) = (Sums::new(), Sums::new(), true);
    for part in parts {
        let part_limits = part.and_then(|r| r.limits.as_ref());
        add(&mut requests, part.and_then(|r| r.requests.as_ref()));
        let counted = add(&mut limits, part_limits);
        all_limited &= counted == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.len() == limits.len() && requests.iter().all(|(name, sum)| limits.get(name) == Some(sum));
    if all_limited && equal { "Guaranteed" } else { "Burstable" }
}

/// Adds cpu and memory that are more than nothing; answers how many there were.
fn add<'a>(sums: &mut Sums<'a>, list: Option<&'a Resources>) -> usize {
    let mut counted = 0;
    for (name, written) in list.into_iter().flatten().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        let Ok(quantity) = Quantity::try_from(written) else { continue };
        if quantity.sign() > 0 {
            let sum = sums.entry(name).or_insert(Quantity::ZERO);
            *sum = sum.plus(&quantity);
            counted += 1;
        }
    }
    counted
}
