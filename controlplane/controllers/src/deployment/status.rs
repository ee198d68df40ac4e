//! A Deployment's status from its ReplicaSets: counts and conditions, with upstream's reasons and messages.
//!
//! Must not know: the API, clocks, scaling.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::scale;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";

/// The deadline, unless it is absent or infinite.
pub fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = status.conditions.as_mut() {
        conditions.retain(|condition| condition.type_ != type_);
    }
    status.conditions.take_if(|conditions| conditions.is_empty());
}

/// Sets a condition; one with the same status and reason stays as it is.
fn set(status: &mut DeploymentStatus, type_: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let old = condition(status, type_).cloned();
    if old.as_ref().is_some_and(|old| old.status == value && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let kept = old.filter(|old| old.status == value).and_then(|old| old.last_transition_time);
    remove(status, type_);
    status.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(kept.unwrap_or(Time(now))),
    });
}

/// Says that a rollout is paused or goes on again, so that a pause does not count against the deadline.
pub fn note_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let reason = condition(status, PROGRESSING).and_then(|condition| condition.reason.clone()).unwrap_or_default();
    if progress_deadline(deployment).is_none() || reason == TIMED_OUT {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    if paused && reason != "DeploymentPaused" {
        set(status, PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".into(), now);
    } else if !paused && reason == "DeploymentPaused" {
        set(status, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now);
    }
}

/// Says where the new set came from.
pub fn note_new_set(deployment: &Deployment, status: &mut DeploymentStatus, name: &str, created: bool, now: Timestamp) {
    if progress_deadline(deployment).is_none() {
        return;
    }
    if created {
        let message = format!("Created new replica set \"{name}\"");
        set(status, PROGRESSING, "True", "NewReplicaSetCreated", message, now);
    } else if condition(status, PROGRESSING).is_none() {
        let message = format!("Found new replica set \"{name}\"");
        set(status, PROGRESSING, "True", "FoundNewReplicaSet", message, now);
    }
}

/// Says that the new set could not be created.
pub fn note_create_error(deployment: &Deployment, status: &mut DeploymentStatus, message: &str, now: Timestamp) {
    if progress_deadline(deployment).is_some() {
        set(status, PROGRESSING, "False", "ReplicaSetCreateError", message.into(), now);
    }
}

/// Counts, and whether enough replicas are available. Conditions are taken from `base`.
pub fn calculate(
    deployment: &Deployment,
    base: &DeploymentStatus,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| sets.iter().map(|set| count(set)).sum::<i32>();
    let actual = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let available = sum(scale::available);
    let some = |number: i32| Some(number).filter(|number| *number > 0);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(actual)),
        updated_replicas: some(new.map_or(0, actual)),
        ready_replicas: some(sum(|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some(sum(scale::size) - available),
        terminating_replicas: terminating(sets),
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    if available >= scale::replicas(deployment) - scale::max_unavailable(deployment) {
        let message = "Deployment has minimum availability.".into();
        set(&mut status, AVAILABLE, "True", "MinimumReplicasAvailable", message, now);
    } else {
        let message = "Deployment does not have minimum availability.".into();
        set(&mut status, AVAILABLE, "False", "MinimumReplicasUnavailable", message, now);
    }
    status
}

/// None while some set that was observed does not say.
fn terminating(sets: &[&ReplicaSet]) -> Option<i32> {
    let observed = sets.iter().filter_map(|set| set.status.as_ref());
    let observed = observed.filter(|status| status.observed_generation.unwrap_or(0) > 0);
    observed.map(|status| status.terminating_replicas).try_fold(0, |sum, count| Some(sum + count?))
}

/// All replicas are new and available, and the controller has seen the latest spec.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Some(scale::replicas(deployment));
    let number = |value: Option<i32>| Some(value.unwrap_or(0));
    number(status.updated_replicas) == wanted
        && number(status.replicas) == wanted
        && number(status.available_replicas) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Adds how the rollout is getting on.
pub fn add_progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) {
    let deadline = progress_deadline(deployment);
    let current = condition(status, PROGRESSING).cloned();
    let was_complete = current.as_ref().is_some_and(|old| old.reason.as_deref() == Some(NEW_SET_AVAILABLE))
        && status.replicas == status.updated_replicas;
    match deadline {
        None => remove(status, PROGRESSING),
        Some(_) if was_complete => {}
        Some(deadline) => estimate(deployment, status, new, current, deadline, now),
    }
    match failure(sets, new) {
        Some((reason, message)) => set(status, REPLICA_FAILURE, "True", &reason, message, now),
        None => remove(status, REPLICA_FAILURE),
    }
}

fn estimate(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    current: Option<DeploymentCondition>,
    deadline: i32,
    now: Timestamp,
) {
    let who = match new.and_then(|set| set.metadata.name.as_deref()) {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if is_complete(deployment, status) {
        set(status, PROGRESSING, "True", NEW_SET_AVAILABLE, format!("{who} has successfully progressed."), now);
    } else if has_progressed(deployment, status) {
        // the same reason again, with a newer update time: that is what the deadline counts from
        remove(status, PROGRESSING);
        set(status, PROGRESSING, "True", "ReplicaSetUpdated", format!("{who} is progressing."), now);
        let kept = current.filter(|old| old.status == "True").and_then(|old| old.last_transition_time);
        let last = status.conditions.as_mut().and_then(|conditions| conditions.last_mut());
        if let (Some(kept), Some(last)) = (kept, last) {
            last.last_transition_time = Some(kept);
        }
    } else if current.is_some_and(|current| has_timed_out(&current, deadline, now)) {
        set(status, PROGRESSING, "False", TIMED_OUT, format!("{who} has timed out progressing."), now);
    }
}

fn has_progressed(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let old = deployment.status.clone().unwrap_or_default();
    let count = |value: Option<i32>| value.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(&old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn has_timed_out(current: &DeploymentCondition, deadline: i32, now: Timestamp) -> bool {
    match current.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => due(current, deadline).is_some_and(|due| due < now),
    }
}

fn due(current: &DeploymentCondition, deadline: i32) -> Option<Timestamp> {
    Some(current.last_update_time.as_ref()?.0 + SignedDuration::from_secs(i64::from(deadline)))
}

/// When to look again whether the rollout has timed out.
pub fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<SignedDuration> {
    let current = condition(status, PROGRESSING)?;
    if is_complete(deployment, status) || matches!(current.reason.as_deref(), Some(TIMED_OUT | NEW_SET_AVAILABLE)) {
        return None;
    }
    let left = due(current, progress_deadline(deployment)?)?.duration_since(now);
    Some(left.max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
}

/// Why pods of some set could not be created or deleted; the new set's reason goes first.
fn failure(sets: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<(String, String)> {
    let all = new.into_iter().chain(sets.iter().copied());
    let mut conditions =
        all.filter_map(|set| set.status.as_ref()).flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.find(|condition| condition.type_ == REPLICA_FAILURE)?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}
