//! The next step of a StatefulSet: pods by ordinal, one after the other unless they may start in parallel.
//!
//! Must not know: the API, clocks.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::deployment::scale;
use crate::history::HASH;
use crate::pods;

/// More replicas than any cluster holds.
const MANY: i32 = 1_000_000;
/// Pods created in one step.
const STEP: usize = 500;

pub struct Seen<'a> {
    pub set: &'a StatefulSet,
    pub pods: Vec<Arc<Pod>>,
    /// The revision that all pods had before the last change of the template.
    pub current: &'a ControllerRevision,
    /// The revision of the template.
    pub update: &'a ControllerRevision,
    pub collisions: Option<i32>,
    pub now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Ordinals to create pods for; true: at the update revision.
    pub create: Vec<(i32, bool)>,
    pub delete: Vec<Arc<Pod>>,
    /// Pods that wait, perhaps for a claim that is missing.
    pub pending: Vec<i32>,
    pub status: StatefulSetStatus,
}

/// The number at the end of a pod's name, if the name is the set's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = pods::name(pod).rsplit_once('-')?;
    number.parse().ok().filter(|_| Some(parent) == set.metadata.name.as_deref())
}

pub fn start(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0)
}

fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).clamp(0, MANY)
}

fn is_on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

fn partition(set: &StatefulSet) -> Option<i32> {
    let strategy = set.spec.as_ref()?.update_strategy.as_ref()?;
    strategy.rolling_update.as_ref()?.partition
}

fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH).map(String::as_str)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

impl Seen<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        is_running_and_ready(pod) && pods::is_available(pod, min_ready, self.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_available(pod) && !pods::is_terminating(pod)
    }

    fn is_at(&self, pod: &Pod, at: &ControllerRevision) -> bool {
        revision(pod) == at.metadata.name.as_deref()
    }

    /// Whether a new pod of that ordinal still gets the revision from before the update.
    fn needs_update_revision(&self, ordinal: i32) -> bool {
        let first = start(self.set);
        let kept = match partition(self.set) {
            Some(partition) if partition > 0 => partition,
            _ => self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        };
        is_on_delete(self.set) || ordinal >= first + kept
    }
}

pub fn plan(seen: &Seen<'_>) -> Plan {
    let (first, count) = (start(seen.set), replicas(seen.set));
    let mut living: Vec<Option<&Arc<Pod>>> = vec![None; usize::try_from(count).unwrap_or(0)];
    let mut condemned: Vec<(i32, &Arc<Pod>)> = Vec::new();
    for pod in &seen.pods {
        let Some(ordinal) = ordinal(seen.set, pod) else { continue };
        match usize::try_from(ordinal - first).ok().and_then(|index| living.get_mut(index)) {
            Some(slot) => *slot = Some(pod),
            None => condemned.push((ordinal, pod)),
        }
    }
    condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
    let mut plan = Plan::default();
    if seen.set.metadata.deletion_timestamp.is_none() {
        step(seen, &living, &condemned, &mut plan);
    }
    plan.status = status(seen, &plan);
    plan
}

fn step(seen: &Seen<'_>, living: &[Option<&Arc<Pod>>], condemned: &[(i32, &Arc<Pod>)], plan: &mut Plan) {
    let policy = seen.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref());
    let monotonic = policy != Some("Parallel");
    let first = start(seen.set);
    for (ordinal, pod) in (first..).zip(living) {
        let waits = keep(seen, ordinal, *pod, plan);
        if (waits && monotonic) || plan.create.len() >= STEP {
            return;
        }
    }
    if shrink(seen, living, condemned, monotonic, plan) || !plan.create.is_empty() || !plan.delete.is_empty() {
        return;
    }
    if !is_on_delete(seen.set) {
        update(seen, living, plan);
    }
}

/// Sees to one ordinal; whether the next has to wait for it.
fn keep(seen: &Seen<'_>, ordinal: i32, pod: Option<&Arc<Pod>>, plan: &mut Plan) -> bool {
    let Some(pod) = pod else {
        plan.create.push((ordinal, seen.needs_update_revision(ordinal)));
        return true;
    };
    if pods::is_terminal(pod) {
        if !pods::is_terminating(pod) {
            plan.delete.push(pod.clone());
        }
        return true;
    }
    if pods::phase(pod) == "Pending" {
        plan.pending.push(ordinal);
    }
    !seen.is_healthy(pod)
}

/// Deletes pods of ordinals that are not wanted any more, the highest first. Whether that has to go on first.
fn shrink(
    seen: &Seen<'_>,
    living: &[Option<&Arc<Pod>>],
    condemned: &[(i32, &Arc<Pod>)],
    monotonic: bool,
    plan: &mut Plan,
) -> bool {
    let unhealthy = |pod: &&Arc<Pod>| !seen.is_healthy(pod);
    let lowest = condemned.iter().rev().map(|(_, pod)| *pod);
    let first_unhealthy = living.iter().flatten().copied().chain(lowest).find(unhealthy);
    for (_, pod) in condemned {
        if pods::is_terminating(pod) {
            if monotonic {
                return true;
            }
            continue;
        }
        let blocked = !seen.is_available(pod) && first_unhealthy.is_none_or(|first| pods::uid(first) != pods::uid(pod));
        if monotonic && blocked {
            return true;
        }
        plan.delete.push((*pod).clone());
        if monotonic {
            return true;
        }
    }
    !condemned.is_empty()
}

/// Deletes pods of the old revision, the highest ordinals first, as many as may be unavailable.
fn update(seen: &Seen<'_>, living: &[Option<&Arc<Pod>>], plan: &mut Plan) {
    let strategy = seen.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let most = most.map_or(1, |most| scale::scaled(Some(most), replicas(seen.set), true).max(1));
    let unavailable = living.iter().flatten().filter(|pod| !seen.is_healthy(pod)).count();
    let mut room = usize::try_from(most).unwrap_or(1).saturating_sub(unavailable);
    let from = usize::try_from(partition(seen.set).unwrap_or(0)).unwrap_or(0);
    for pod in living.iter().skip(from).rev().flatten() {
        if seen.is_at(pod, seen.update) || pods::is_terminating(pod) {
            continue;
        }
        if seen.is_healthy(pod) {
            if room == 0 {
                return;
            }
            room -= 1;
        }
        plan.delete.push((*pod).clone());
    }
}

fn status(seen: &Seen<'_>, plan: &Plan) -> StatefulSetStatus {
    let gone = |pod: &Pod| plan.delete.iter().any(|other| pods::uid(other) == pods::uid(pod));
    let count = |wanted: &dyn Fn(&Pod) -> bool| {
        i32::try_from(seen.pods.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
    };
    let created =
        |update: bool| i32::try_from(plan.create.iter().filter(|(_, own)| *own == update).count()).unwrap_or(0);
    let live = |pod: &Pod| !pods::is_terminating(pod) && !gone(pod);
    let same = seen.current.metadata.name == seen.update.metadata.name;
    let (new_at_update, new_at_current) = (created(true), if same { created(true) } else { 0 } + created(false));
    let replicas_now = count(&|_| true) + created(true) + created(false);
    let ready = count(&is_running_and_ready);
    let updated = count(&|pod| live(pod) && seen.is_at(pod, seen.update)) + new_at_update;
    let mut current = count(&|pod| live(pod) && seen.is_at(pod, seen.current)) + new_at_current;
    let wanted = replicas(seen.set);
    let done = !is_on_delete(seen.set) && updated == wanted && ready == wanted && replicas_now == wanted;
    let mut current_revision = seen.current.metadata.name.clone();
    if done {
        current = updated;
        current_revision.clone_from(&seen.update.metadata.name);
    }
    let some = |number: i32| Some(number).filter(|number| *number > 0);
    StatefulSetStatus {
        observed_generation: seen.set.metadata.generation,
        replicas: replicas_now,
        ready_replicas: some(ready),
        available_replicas: Some(count(&|pod| seen.is_available(pod))),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision,
        update_revision: seen.update.metadata.name.clone(),
        collision_count: Some(seen.collisions.unwrap_or(0)),
        conditions: seen.set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}
