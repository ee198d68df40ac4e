//! How far each ReplicaSet may be scaled in this step. The arithmetic is upstream's rolling update and proportional
//! scaling.
//!
//! Must not know: the API, clocks, conditions.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision;

/// More replicas than any cluster holds; sums of a few such numbers do not overflow.
const MANY: i32 = 1 << 28;

pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).clamp(0, MANY)
}

pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// How many pods more than wanted there may be meanwhile, and how many fewer.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    if is_recreate(deployment) {
        return (0, 0);
    }
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling: RollingUpdateDeployment =
        strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let total = replicas(deployment);
    let surge = scaled(rolling.max_surge.as_ref(), total, true);
    let unavailable = scaled(rolling.max_unavailable.as_ref(), total, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// A number, or a percentage of `total`, rounded up or down; 25 % where nothing is given.
pub fn scaled(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).clamp(0, MANY),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0),
        None => 25,
    };
    let exact = percent * i64::from(total);
    let rounded = if up { (exact + 99).div_euclid(100) } else { exact.div_euclid(100) };
    i32::try_from(rounded).unwrap_or(MANY).clamp(0, MANY)
}

pub fn max_surge(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) { 0 } else { fenceposts(deployment).0 }
}

pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let total = replicas(deployment);
    if is_recreate(deployment) || total == 0 { 0 } else { fenceposts(deployment).1.min(total) }
}

pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).clamp(0, MANY)
}

pub fn set_size(set: &mut ReplicaSet, replicas: i32) {
    set.spec.get_or_insert_default().replicas = Some(replicas);
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// How large the new set may be now; `others` are the pods that all other sets want.
pub fn new_size(deployment: &Deployment, new: i32, others: i32) -> i32 {
    let wanted = replicas(deployment);
    if new >= wanted || is_recreate(deployment) {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - new - others;
    if room <= 0 { new } else { new + room.min(wanted - new) }
}

/// Scales old sets down as far as availability allows: first pods that are not available, then others. `old` is oldest
/// first. Whether any changed.
pub fn shrink_old(deployment: &Deployment, old: &mut [&mut ReplicaSet], new: Option<&ReplicaSet>) -> bool {
    let old_pods: i32 = old.iter().map(|set| size(set)).sum();
    if old_pods == 0 {
        return false;
    }
    let (new_pods, new_available) = new.map_or((0, 0), |set| (size(set), available(set)));
    let least = replicas(deployment) - max_unavailable(deployment);
    let most_down = old_pods + new_pods - least - (new_pods - new_available);
    if most_down <= 0 {
        return false;
    }
    let mut cleaned = 0;
    for set in old.iter_mut() {
        let unhealthy = (size(set) - available(set)).clamp(0, most_down - cleaned);
        let smaller = size(set) - unhealthy;
        set_size(set, smaller);
        cleaned += unhealthy;
    }
    let old_available: i32 = old.iter().map(|set| available(set)).sum();
    let mut spare = (old_available + new_available - least).max(0);
    let mut shrunk = cleaned;
    for set in old.iter_mut() {
        let down = size(set).min(spare);
        let smaller = size(set) - down;
        set_size(set, smaller);
        spare -= down;
        shrunk += down;
    }
    shrunk > 0
}

/// Scales to a Deployment's new size outside a rollout: the one active set, or all in proportion. `sets` are all sets,
/// `new` the index of the new one.
pub fn scale_all(deployment: &Deployment, sets: &mut [ReplicaSet], new: Option<usize>) {
    let wanted = replicas(deployment);
    let active: Vec<usize> = (0..sets.len()).filter(|index| size(&sets[*index]) > 0).collect();
    match active[..] {
        [] => {
            if let Some(index) = new.or_else(|| latest(sets)) {
                resize(&mut sets[index], wanted, deployment);
            }
        }
        [only] => resize(&mut sets[only], wanted, deployment),
        _ if new.is_some_and(|index| is_saturated(deployment, &sets[index])) => {
            for index in active.into_iter().filter(|index| Some(*index) != new) {
                resize(&mut sets[index], 0, deployment);
            }
        }
        _ if is_recreate(deployment) => {}
        _ => scale_in_proportion(deployment, sets, active),
    }
}

fn latest(sets: &[ReplicaSet]) -> Option<usize> {
    (0..sets.len()).max_by(|left, right| revision::by_age(&sets[*left], &sets[*right]))
}

fn resize(set: &mut ReplicaSet, to: i32, deployment: &Deployment) {
    if size(set) != to {
        set_size(set, to);
        revision::set_replicas_annotations(set, deployment);
    }
}

fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = replicas(deployment);
    size(new) == wanted && revision::desired_replicas(new) == Some(wanted) && available(new) == wanted
}

fn scale_in_proportion(deployment: &Deployment, sets: &mut [ReplicaSet], mut active: Vec<usize>) {
    let wanted = replicas(deployment);
    let allowed = if wanted > 0 { wanted + max_surge(deployment) } else { 0 };
    let to_add = allowed - active.iter().map(|index| size(&sets[*index])).sum::<i32>();
    // the largest first; of equals the newer when growing, the older when shrinking
    active.sort_by(|left, right| {
        let (left, right) = (&sets[*left], &sets[*right]);
        let age = revision::by_age(left, right);
        size(right).cmp(&size(left)).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::new();
    for index in &active {
        let share = proportion(deployment, &sets[*index], to_add, added);
        sizes.push(size(&sets[*index]) + share);
        added += share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (index, to) in active.into_iter().zip(sizes) {
        set_size(&mut sets[index], to);
        revision::set_replicas_annotations(&mut sets[index], deployment);
    }
}

/// A set's share of the replicas to add (or, negative, to remove).
fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    let left = to_add - added;
    if size(set) == 0 || left == 0 {
        return 0;
    }
    let fraction = fraction(deployment, set);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let wanted = replicas(deployment);
    if wanted == 0 {
        return -size(set);
    }
    let status = deployment.status.as_ref().and_then(|status| status.replicas);
    let before = revision::max_replicas(set).filter(|max| *max != 0).or(status).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let exact = f64::from(size(set)) * f64::from(wanted + max_surge(deployment)) / f64::from(before);
    exact.round() as i32 - size(set)
}
