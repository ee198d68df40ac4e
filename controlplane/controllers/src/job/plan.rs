//! The next step of a Job. A finished pod is counted in two steps, so that none is missed or counted twice: its UID
//! goes into `uncountedTerminatedPods`, then its finalizer goes, and once the pod is seen without it (or gone) the UID
//! becomes one more in a counter.
//!
//! Must not know: the API, clocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::failure::{self, Verdict};
use super::{indexes, per_index, success};
use crate::pods;

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Pods created or deleted, and counted, in one step.
const STEP: usize = 500;

#[derive(Debug, Default, PartialEq)]
pub struct Plan<'a> {
    /// Pods to create; of an indexed Job with their indexes.
    pub create: Vec<Option<i32>>,
    /// How often the indexes have failed, where each may on its own.
    pub failures: BTreeMap<i32, i32>,
    pub delete: Vec<&'a Pod>,
    /// Written before finalizers are removed.
    pub status: JobStatus,
    pub release: Vec<&'a Pod>,
    /// Look again then, even if nothing happens.
    pub again: Option<SignedDuration>,
}

pub fn is_finished(status: Option<&JobStatus>) -> bool {
    status.is_some_and(|status| has(status, "Complete") || has(status, "Failed"))
}

fn has(status: &JobStatus, type_: &str) -> bool {
    find(status, type_).is_some_and(|condition| condition.status == "True")
}

fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}

pub fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.completion_mode.as_deref() == Some("Indexed"))
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false)
}

pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// A Job and its pods, with what has been counted so far.
struct Draft<'a> {
    job: &'a Job,
    pods: Vec<&'a Pod>,
    active: Vec<&'a Pod>,
    terminating: usize,
    succeeded_uids: Vec<String>,
    failed_uids: Vec<String>,
    indexes: BTreeSet<i32>,
    /// Failed for good, each on its own.
    failed_indexes: BTreeSet<i32>,
    succeeded: i32,
    failed: i32,
    status: JobStatus,
    now: Timestamp,
}

/// `all` are the Job's pods; `deleting` the UIDs of those it has deleted already. The Job is not finished.
pub fn plan<'a>(job: &'a Job, all: &[&'a Pod], deleting: &HashSet<String>, now: Timestamp) -> Plan<'a> {
    let mut draft = Draft::new(job, all, deleting, now);
    draft.count();
    let mut plan = Plan::default();
    let going = job.metadata.deletion_timestamp.is_some();
    if let Some((reason, message)) = draft.failure() {
        draft.add_condition("FailureTarget", &reason, message);
    }
    let target = has(&draft.status, "FailureTarget");
    if !target
        && !has(&draft.status, "SuccessCriteriaMet")
        && let Some(rule) = success::met(job, &draft.indexes)
    {
        draft.add_condition("SuccessCriteriaMet", "SuccessPolicy", rule);
    }
    if target || has(&draft.status, "SuccessCriteriaMet") {
        plan.delete.clone_from(&draft.active);
    } else if !going {
        draft.manage(&mut plan);
    }
    draft.track(target, going, &mut plan);
    draft.finish(&plan);
    plan.again = plan.again.into_iter().chain(draft.deadline()).min();
    plan.status = draft.status;
    plan
}

impl<'a> Draft<'a> {
    fn new(job: &'a Job, all: &[&'a Pod], deleting: &HashSet<String>, now: Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let gone = |pod: &&Pod| pods::is_terminating(pod) || deleting.contains(pods::uid(pod));
        let active = all.iter().copied().filter(|pod| !pods::is_terminal(pod) && !gone(pod)).collect();
        let terminating = all.iter().filter(|pod| !pods::is_terminal(pod) && gone(pod)).count();
        let mut pods = all.to_vec();
        pods.sort_by_key(|pod| index_of(pod));
        let completions = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(0);
        let indexes = indexes::read(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let failed_indexes = indexes::read(status.failed_indexes.as_deref().unwrap_or_default(), completions);
        Self {
            job,
            pods,
            active,
            terminating,
            succeeded_uids: uncounted.succeeded.unwrap_or_default(),
            failed_uids: uncounted.failed.unwrap_or_default(),
            indexes,
            failed_indexes,
            succeeded: 0,
            failed: 0,
            status,
            now,
        }
    }

    fn completions(&self) -> Option<i32> {
        self.job.spec.as_ref().and_then(|spec| spec.completions)
    }

    /// Moves UIDs of pods without a finalizer into the counters, and sums up what has succeeded and failed.
    fn count(&mut self) {
        let held: HashSet<&str> = self.pods.iter().filter(|pod| has_finalizer(pod)).map(|pod| pods::uid(pod)).collect();
        let settle = |uids: &mut Vec<String>, counter: &mut Option<i32>| {
            let before = uids.len();
            uids.retain(|uid| held.contains(uid.as_str()));
            let counted = i32::try_from(before - uids.len()).unwrap_or(i32::MAX);
            *counter = Some(counter.unwrap_or(0) + counted).filter(|count| *count > 0);
        };
        settle(&mut self.succeeded_uids, &mut self.status.succeeded);
        settle(&mut self.failed_uids, &mut self.status.failed);
        let new_succeeded: Vec<&Pod> = self.new_pods(&self.succeeded_uids, |pod| pods::phase(pod) == "Succeeded");
        let new_failed = self.new_pods(&self.failed_uids, |pod| failure::is_failed(self.job, pod));
        let new_failed = new_failed.iter().filter(|pod| failure::verdict(self.job, pod) != Verdict::Ignore).count();
        let length = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        self.failed = self.status.failed.unwrap_or(0) + length(self.failed_uids.len() + new_failed);
        if is_indexed(self.job) {
            let end = self.completions().unwrap_or(0);
            self.indexes.extend(new_succeeded.iter().filter_map(|pod| index_of(pod)).filter(|index| *index < end));
            self.succeeded = length(self.indexes.len());
            self.failed_indexes.extend(per_index::failed(self.job, &self.pods));
        } else {
            let uncounted = self.succeeded_uids.len() + new_succeeded.len();
            self.succeeded = self.status.succeeded.unwrap_or(0) + length(uncounted);
        }
    }

    /// Ended pods that are not in the status yet.
    fn new_pods(&self, uncounted: &[String], ended: impl Fn(&Pod) -> bool) -> Vec<&'a Pod> {
        let known: HashSet<&str> = uncounted.iter().map(String::as_str).collect();
        let new = |pod: &&&'a Pod| has_finalizer(pod) && !known.contains(pods::uid(pod)) && ended(pod);
        self.pods.iter().filter(new).copied().collect()
    }

    /// Why the Job has failed, if it has and that is not said yet.
    fn failure(&self) -> Option<(String, String)> {
        if has(&self.status, "SuccessCriteriaMet") || has(&self.status, "FailureTarget") {
            return None;
        }
        let failed = self.pods.iter().filter(|pod| failure::is_failed(self.job, pod));
        for pod in failed {
            if let Verdict::FailJob(message) = failure::verdict(self.job, pod) {
                return Some(("PodFailurePolicy".into(), message));
            }
        }
        let limit = self.job.spec.as_ref().and_then(|spec| spec.backoff_limit).unwrap_or(6);
        if self.failed > limit || failure::restarts_exceed(self.job, &self.pods, limit) {
            return Some(("BackoffLimitExceeded".into(), "Job has reached the specified backoff limit".into()));
        }
        if let Some(failed) = self.index_failure() {
            return Some(failed);
        }
        let late = self.deadline() == Some(SignedDuration::ZERO);
        late.then(|| ("DeadlineExceeded".into(), "Job was active longer than specified deadline".into()))
    }

    /// Too many indexes have failed, or all are done and some have.
    fn index_failure(&self) -> Option<(String, String)> {
        per_index::limit(self.job)?;
        let failed = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
        let most = self.job.spec.as_ref().and_then(|spec| spec.max_failed_indexes);
        let said = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
        if most.is_some_and(|most| failed > most) {
            return said("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
        }
        let done = self.succeeded.saturating_add(failed) >= self.completions().unwrap_or(0);
        if failed > 0 && done { said("FailedIndexes", "Job has failed indexes") } else { None }
    }

    /// How long the Job may still be active.
    fn deadline(&self) -> Option<SignedDuration> {
        if is_suspended(self.job) || has(&self.status, "FailureTarget") {
            return None;
        }
        let seconds = self.job.spec.as_ref()?.active_deadline_seconds?;
        let end = self.status.start_time.as_ref()?.0 + SignedDuration::from_secs(seconds);
        Some(end.duration_since(self.now).max(SignedDuration::ZERO))
    }

    /// Creates or deletes pods, and notes suspension and success.
    fn manage(&mut self, plan: &mut Plan<'a>) {
        if self.status.start_time.is_none() && !is_suspended(self.job) {
            self.status.start_time = Some(Time(self.now));
        }
        if is_suspended(self.job) {
            plan.delete = self.active.iter().copied().take(STEP).collect();
        } else {
            self.adjust(plan);
        }
        let left = self.active.len() - plan.delete.len() + plan.create.len();
        let enough = match self.completions() {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        if enough && left == 0 {
            let message = "Reached expected number of succeeded pods".to_owned();
            self.add_condition("SuccessCriteriaMet", "CompletionsReached", message);
        } else {
            self.note_suspension();
        }
    }

    fn adjust(&self, plan: &mut Plan<'a>) {
        let wanted = self.wanted_active();
        let surplus = self.surplus(self.active.len().saturating_sub(wanted));
        if !surplus.is_empty() {
            plan.delete = surplus;
            return;
        }
        let waiting = if failure::replaces_only_failed(self.job) { self.terminating } else { 0 };
        let missing = wanted.saturating_sub(self.active.len() + waiting).min(STEP);
        if missing == 0 {
            return;
        }
        if per_index::limit(self.job).is_some() {
            return self.retry_indexes(missing, plan);
        }
        match failure::wait(self.job, &self.pods, self.now) {
            Some(wait) => plan.again = Some(wait),
            None if is_indexed(self.job) => plan.create = self.pending_indexes(missing),
            None => plan.create = vec![None; missing],
        }
    }

    /// Those indexes that need not wait after their last failure.
    fn retry_indexes(&self, missing: usize, plan: &mut Plan<'a>) {
        plan.failures = per_index::failures(self.job, &self.pods);
        for index in self.pending_indexes(usize::MAX).into_iter().flatten() {
            match per_index::wait(self.job, &self.pods, index, self.now) {
                Some(wait) => plan.again = plan.again.into_iter().chain([wait]).min(),
                None if plan.create.len() < missing => plan.create.push(Some(index)),
                None => {}
            }
        }
    }

    fn wanted_active(&self) -> usize {
        let parallelism = self.job.spec.as_ref().and_then(|spec| spec.parallelism).unwrap_or(1);
        let wanted = match self.completions() {
            // once one has succeeded, those that run may finish, and no other starts
            None if self.succeeded > 0 => return self.active.len(),
            None => parallelism,
            Some(completions) => {
                let failed = i32::try_from(self.failed_indexes.len()).unwrap_or(i32::MAX);
                parallelism.min(completions - self.succeeded - failed)
            }
        };
        usize::try_from(wanted).unwrap_or(0)
    }

    /// Active pods that are too many: of an indexed Job first those that have another's index or none that counts.
    fn surplus(&self, at_least: usize) -> Vec<&'a Pod> {
        let mut surplus: Vec<&Pod> = Vec::new();
        let mut rest: Vec<&Pod> = self.active.clone();
        rest.sort_by_key(|pod| (pods::is_ready(pod), pods::phase(pod) == "Running"));
        if is_indexed(self.job) {
            let mut taken: BTreeMap<i32, ()> = BTreeMap::new();
            let end = self.completions().unwrap_or(0);
            // the readiest pod of an index stays
            let (keep, drop): (Vec<&Pod>, Vec<&Pod>) =
                rest.iter().rev().copied().partition(|pod| {
                    index_of(pod).is_some_and(|index| index < end && taken.insert(index, ()).is_none())
                });
            surplus = drop;
            rest = keep.into_iter().rev().collect();
        }
        let more = at_least.saturating_sub(surplus.len());
        surplus.extend(rest.into_iter().take(more));
        surplus.truncate(STEP);
        surplus
    }

    /// The lowest indexes that have neither succeeded nor a pod.
    fn pending_indexes(&self, count: usize) -> Vec<Option<i32>> {
        let busy = self.pods.iter().filter(|pod| {
            let waits = failure::replaces_only_failed(self.job) && !pods::is_terminal(pod);
            waits || self.active.iter().any(|active| pods::uid(active) == pods::uid(pod))
        });
        let busy: BTreeSet<i32> = busy.filter_map(|pod| index_of(pod)).collect();
        let done = |index: &i32| self.indexes.contains(index) || self.failed_indexes.contains(index);
        let free = (0..self.completions().unwrap_or(0)).filter(|index| !done(index) && !busy.contains(index));
        free.take(count).map(Some).collect()
    }

    fn note_suspension(&mut self) {
        let suspended = has(&self.status, "Suspended");
        let known = find(&self.status, "Suspended").is_some();
        if is_suspended(self.job) && !suspended {
            self.set_condition("Suspended", "True", "JobSuspended", "Job suspended");
            self.status.start_time = None;
        } else if !is_suspended(self.job) && suspended && known {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            self.status.start_time = Some(Time(self.now));
        }
    }

    /// Puts pods that have ended into the status, and lets them go.
    fn track(&mut self, target: bool, going: bool, plan: &mut Plan<'a>) {
        let (mut failed, mut succeeded) = (Vec::new(), Vec::new());
        let ends = target || going || has(&self.status, "SuccessCriteriaMet");
        let done = self.indexes.union(&self.failed_indexes).copied().collect();
        let counts = per_index::limit(self.job).is_some() && !ends;
        let kept = if counts { per_index::kept(self.job, &self.pods, &done) } else { HashSet::new() };
        for pod in self.pods.iter().filter(|pod| has_finalizer(pod)) {
            let uid = pods::uid(pod).to_owned();
            let (is_success, is_failure) = (pods::phase(pod) == "Succeeded", failure::is_failed(self.job, pod));
            if !(is_success || is_failure || ends) || kept.contains(pods::uid(pod)) {
                continue;
            }
            if plan.release.len() >= STEP {
                break;
            }
            plan.release.push(pod);
            if is_success && !self.failed_uids.contains(&uid) {
                if !is_indexed(self.job) && !self.succeeded_uids.contains(&uid) {
                    succeeded.push(uid);
                }
            } else if (is_failure || target)
                && !self.failed_uids.contains(&uid)
                && failure::verdict(self.job, pod) != Verdict::Ignore
            {
                failed.push(uid);
            }
        }
        self.succeeded_uids.extend(succeeded);
        self.failed_uids.extend(failed);
    }

    /// Writes the counts down, and the end, once nothing is left to count or to wait for.
    fn finish(&mut self, plan: &Plan<'_>) {
        let some = |number: usize| Some(i32::try_from(number).unwrap_or(i32::MAX)).filter(|number| *number > 0);
        let left: Vec<&&Pod> = self
            .active
            .iter()
            .filter(|pod| !plan.delete.iter().any(|gone| pods::uid(gone) == pods::uid(pod)))
            .collect();
        let ready = left.iter().filter(|pod| pods::is_ready(pod)).count();
        self.status.active = some(left.len() + plan.create.len());
        self.status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX));
        let terminating = self.terminating + plan.delete.len();
        self.status.terminating = Some(i32::try_from(terminating).unwrap_or(i32::MAX));
        if is_indexed(self.job) {
            self.status.succeeded = some(self.indexes.len());
            self.status.completed_indexes = Some(indexes::write(&self.indexes)).filter(|text| !text.is_empty());
        }
        if per_index::limit(self.job).is_some() {
            self.status.failed_indexes = Some(indexes::write(&self.failed_indexes));
        }
        let list = |uids: &[String]| Some(uids.to_vec()).filter(|uids| !uids.is_empty());
        let uncounted = self.succeeded_uids.len() + self.failed_uids.len();
        self.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: list(&self.succeeded_uids), failed: list(&self.failed_uids) });
        if uncounted == 0 && terminating == 0 && left.is_empty() && plan.create.is_empty() && plan.release.is_empty() {
            self.conclude();
        }
    }

    fn conclude(&mut self) {
        let target = ["SuccessCriteriaMet", "FailureTarget"].into_iter().find(|type_| has(&self.status, type_));
        let Some(condition) = target.and_then(|type_| find(&self.status, type_)).cloned() else { return };
        let (reason, message) = (condition.reason.unwrap_or_default(), condition.message.unwrap_or_default());
        if condition.type_ == "SuccessCriteriaMet" {
            self.status.completion_time = Some(Time(self.now));
            self.add_condition("Complete", &reason, message);
        } else {
            self.add_condition("Failed", &reason, message);
        }
    }

    fn add_condition(&mut self, type_: &str, reason: &str, message: String) {
        self.set_condition(type_, "True", reason, &message);
    }

    fn set_condition(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let new = JobCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        };
        let conditions = self.status.conditions.get_or_insert_default();
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }
}
