//! The next step of a Deployment: which ReplicaSets to create, change or delete, and the status to report.
//!
//! Must not know: the API, clocks.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{revision, scale, status};

/// What the controller sees of a Deployment.
pub struct Seen<'a> {
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// Whether pods of other sets than the new one have not ended yet.
    pub old_pods_running: bool,
}

#[derive(Debug, PartialEq, Clone)]
pub enum Step {
    Create(ReplicaSet),
    /// The set as it shall be; `from` is its size now.
    Update {
        set: ReplicaSet,
        from: i32,
    },
    Delete(ReplicaSet),
}

#[derive(Debug, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The Deployment with the status and revision to report.
    pub report: Deployment,
    /// Look again then, even if nothing happens.
    pub again: Option<SignedDuration>,
}

/// The sets while the plan is made: as they shall be, oldest first.
struct Draft {
    before: Vec<Arc<ReplicaSet>>,
    sets: Vec<ReplicaSet>,
    new: Option<usize>,
    created: Option<ReplicaSet>,
    deleted: Vec<ReplicaSet>,
}

pub fn plan(seen: Seen<'_>, now: Timestamp) -> Plan {
    let deployment = seen.deployment;
    let mut base = deployment.status.clone().unwrap_or_default();
    let mut draft = Draft::new(deployment, seen.sets);
    let mut revision = None;
    if deployment.metadata.deletion_timestamp.is_none() {
        status::note_pause(deployment, &mut base, now);
        step(deployment, &mut draft, seen.old_pods_running);
        revision = draft.note_new(deployment, &mut base, now);
    }
    let status = draft.status(deployment, &base, now);
    let again = status::next_check(deployment, &status, now);
    Plan { steps: draft.into_steps(), report: report(deployment, status, revision), again }
}

fn step(deployment: &Deployment, draft: &mut Draft, old_pods_running: bool) {
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    draft.sync_revision(deployment);
    if paused || draft.is_scaling(deployment) {
        scale::scale_all(deployment, &mut draft.sets, draft.new);
        if paused {
            draft.clean_up(deployment);
        }
    } else if scale::is_recreate(deployment) {
        recreate(deployment, draft, old_pods_running);
    } else {
        roll(deployment, draft);
    }
}

fn roll(deployment: &Deployment, draft: &mut Draft) {
    if draft.grow_new(deployment) {
        return;
    }
    let new = draft.new.map(|index| draft.sets[index].clone());
    let mut old: Vec<&mut ReplicaSet> = draft.old_mut().collect();
    if scale::shrink_old(deployment, &mut old, new.as_ref()) {
        old.into_iter().for_each(|set| revision::set_replicas_annotations(set, deployment));
        return;
    }
    draft.clean_up_if_complete(deployment);
}

fn recreate(deployment: &Deployment, draft: &mut Draft, old_pods_running: bool) {
    let mut shrunk = false;
    for set in draft.old_mut().filter(|set| scale::size(set) > 0) {
        scale::set_size(set, 0);
        revision::set_replicas_annotations(set, deployment);
        shrunk = true;
    }
    let counted = draft.old_mut().any(|set| set.status.as_ref().is_some_and(|status| status.replicas > 0));
    if shrunk || counted || old_pods_running {
        return;
    }
    draft.grow_new(deployment);
    draft.clean_up_if_complete(deployment);
}

impl Draft {
    fn new(deployment: &Deployment, mut before: Vec<Arc<ReplicaSet>>) -> Self {
        before.sort_by(|left, right| revision::by_age(left, right));
        let new = revision::find_new(deployment, &before);
        let new = new.and_then(|new| before.iter().position(|set| set.metadata.uid == new.metadata.uid));
        let sets = before.iter().map(|set| set.as_ref().clone()).collect();
        Self { before, sets, new, created: None, deleted: Vec::new() }
    }

    fn old_mut(&mut self) -> impl Iterator<Item = &mut ReplicaSet> {
        let new = self.new;
        self.sets.iter_mut().enumerate().filter(move |(index, _)| Some(*index) != new).map(|(_, set)| set)
    }

    /// One more than any old set's.
    fn next_revision(&self) -> i64 {
        let old = self.before.iter().enumerate().filter(|(index, _)| Some(*index) != self.new);
        old.map(|(_, set)| revision::number(&set.metadata)).max().unwrap_or(0) + 1
    }

    /// The new set, if it exists, carries the highest revision and the Deployment's annotations.
    fn sync_revision(&mut self, deployment: &Deployment) {
        let next = self.next_revision();
        let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let Some(new) = self.new.and_then(|index| self.sets.get_mut(index)) else { return };
        revision::annotate(new, deployment, next);
        if let Some(spec) =
            new.spec.as_mut().filter(|spec| spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0))
        {
            spec.min_ready_seconds = min_ready;
        }
    }

    /// Whether the Deployment was given another size since its sets were last scaled.
    fn is_scaling(&self, deployment: &Deployment) -> bool {
        let active = self.sets.iter().filter(|set| scale::size(set) > 0);
        active.filter_map(revision::desired_replicas).any(|desired| desired != scale::replicas(deployment))
    }

    /// Creates or scales the new set as far as it may grow (or must shrink). Whether anything changed.
    fn grow_new(&mut self, deployment: &Deployment) -> bool {
        let others: i32 = self.old_mut().map(|set| scale::size(set)).sum();
        let Some(new) = self.new else {
            let size = scale::new_size(deployment, 0, others);
            self.created = revision::new_set(deployment, size, self.next_revision());
            return size > 0;
        };
        let set = &mut self.sets[new];
        let (from, to) = (scale::size(set), scale::new_size(deployment, scale::size(set), others));
        if from != to {
            scale::set_size(set, to);
            revision::set_replicas_annotations(set, deployment);
        }
        from != to
    }

    fn clean_up_if_complete(&mut self, deployment: &Deployment) {
        if deployment.status.as_ref().is_some_and(|status| status::is_complete(deployment, status)) {
            self.clean_up(deployment);
        }
    }

    /// Deletes the oldest revisions over the limit, unless they have pods.
    fn clean_up(&mut self, deployment: &Deployment) {
        let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        if limit == i32::MAX {
            return;
        }
        let alive = |set: &ReplicaSet| set.metadata.deletion_timestamp.is_none();
        let mut old: Vec<ReplicaSet> = self.old_mut().filter(|set| alive(set)).map(|set| set.clone()).collect();
        old.sort_by_key(|set| revision::number(&set.metadata));
        let over = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        self.deleted = old.into_iter().take(over).filter(is_unused).collect();
    }

    /// Notes the new set in the status; its revision.
    fn note_new(&self, deployment: &Deployment, base: &mut DeploymentStatus, now: Timestamp) -> Option<String> {
        let existing = self.new.map(|index| &self.sets[index]);
        let set = self.created.as_ref().or(existing)?;
        let name = set.metadata.name.as_deref().unwrap_or_default();
        status::note_new_set(deployment, base, name, self.created.is_some(), now);
        revision::annotation(&set.metadata, revision::REVISION).map(str::to_owned)
    }

    fn status(&self, deployment: &Deployment, base: &DeploymentStatus, now: Timestamp) -> DeploymentStatus {
        let sets: Vec<&ReplicaSet> = self.sets.iter().chain(&self.created).collect();
        let new = self.created.as_ref().or(self.new.map(|index| &self.sets[index]));
        let mut status = status::calculate(deployment, base, &sets, new, now);
        let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
        let going = deployment.metadata.deletion_timestamp.is_some();
        if !paused && !going && !self.was_scaling(deployment) {
            status::add_progress(deployment, &mut status, &sets, new, now);
        }
        status
    }

    fn was_scaling(&self, deployment: &Deployment) -> bool {
        let active = self.before.iter().filter(|set| scale::size(set) > 0);
        active.filter_map(|set| revision::desired_replicas(set)).any(|desired| desired != scale::replicas(deployment))
    }

    fn into_steps(self) -> Vec<Step> {
        let changed = self.before.iter().zip(self.sets).filter(|(before, after)| before.as_ref() != after);
        let updates = changed.map(|(before, set)| Step::Update { set, from: scale::size(before) });
        let deletes = self.deleted.into_iter().map(Step::Delete);
        updates.chain(self.created.into_iter().map(Step::Create)).chain(deletes).collect()
    }
}

fn is_unused(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    let observed = set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0);
    status.replicas == 0 && scale::size(set) == 0 && observed
}

fn report(deployment: &Deployment, status: DeploymentStatus, revision: Option<String>) -> Deployment {
    let mut report = Deployment { status: Some(status), ..deployment.clone() };
    if let Some(revision) = revision {
        report.metadata.annotations.get_or_insert_default().insert(revision::REVISION.into(), revision);
    }
    report
}
