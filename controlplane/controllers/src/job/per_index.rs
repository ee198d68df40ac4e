//! `backoffLimitPerIndex`: how often each index has failed, which indexes have failed for good, and which failed pods
//! must stay until another takes their place, since they carry the count.
//!
//! Must not know: the API, clocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::failure::{self, Verdict};
use super::plan::{index_of, is_indexed};
use crate::pods;

/// On a pod: how often its index had failed before.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// How often an index may fail, where each may on its own.
pub fn limit(job: &Job) -> Option<i32> {
    job.spec.as_ref().and_then(|spec| spec.backoff_limit_per_index).filter(|_| is_indexed(job))
}

fn before(pod: &Pod) -> i32 {
    let count = pod.metadata.annotations.as_ref().and_then(|all| all.get(FAILURES));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// With the pod's own failure, if it is one that counts.
fn with(job: &Job, pod: &Pod) -> i32 {
    let counts = failure::is_failed(job, pod) && failure::verdict(job, pod) != Verdict::Ignore;
    before(pod) + i32::from(counts)
}

/// The indexes that these pods make fail for good.
pub fn failed(job: &Job, all: &[&Pod]) -> BTreeSet<i32> {
    let Some(limit) = limit(job) else { return BTreeSet::new() };
    let fails = |pod: &&&Pod| {
        failure::is_failed(job, pod) && (failure::verdict(job, pod) == Verdict::FailIndex || with(job, pod) > limit)
    };
    all.iter().filter(fails).filter_map(|pod| index_of(pod)).collect()
}

/// How often each index has failed, as its pods tell.
pub fn failures(job: &Job, all: &[&Pod]) -> BTreeMap<i32, i32> {
    let mut counts = BTreeMap::new();
    for pod in all {
        if let Some(index) = index_of(pod) {
            let count = counts.entry(index).or_insert(0);
            *count = with(job, pod).max(*count);
        }
    }
    counts
}

/// How long an index waits before it is tried again.
pub fn wait(job: &Job, all: &[&Pod], index: i32, now: Timestamp) -> Option<SignedDuration> {
    let own = || all.iter().filter(|pod| index_of(pod) == Some(index));
    let count = own().map(|pod| with(job, pod)).max().filter(|count| *count > 0)?;
    let last = own().filter(|pod| failure::is_failed(job, pod)).filter_map(|pod| failure::finished(pod)).max()?;
    let delay = failure::delay(u32::try_from(count - 1).unwrap_or(0));
    Some((last + delay).duration_since(now)).filter(SignedDuration::is_positive)
}

/// The failed pods, by UID, that carry the count of an index that goes on (`done` do not) and nobody carries on yet.
pub fn kept<'a>(job: &Job, all: &[&'a Pod], done: &BTreeSet<i32>) -> HashSet<&'a str> {
    let mut newest: BTreeMap<i32, &'a Pod> = BTreeMap::new();
    for &pod in all {
        let Some(index) = index_of(pod).filter(|index| !done.contains(index)) else { continue };
        if failure::is_failed(job, pod) && newest.get(&index).is_none_or(|other| with(job, other) < with(job, pod)) {
            newest.insert(index, pod);
        }
    }
    let carried = |index: i32, count: i32| {
        all.iter().any(|pod| index_of(pod) == Some(index) && before(pod) >= count && !failure::is_failed(job, pod))
    };
    newest.retain(|index, pod| !carried(*index, with(job, pod)));
    newest.values().map(|pod| pods::uid(pod)).collect()
}
