//! When a Job's pod counts as failed, what its pod failure policy says about it, and how long to wait before the next.
//!
//! Must not know: the API, clocks.

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::pods;

/// The delay after the first failure; doubled with each further one up to the last.
const FIRST_DELAY: i64 = 10;
const LAST_DELAY: i64 = 600;

/// What a policy says about a failed pod.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It counts towards the backoff limit.
    Count,
    Ignore,
    /// Its index fails for good.
    FailIndex,
    /// The whole Job fails, for this reason.
    FailJob(String),
}

/// Whether terminating pods are waited for before they are replaced.
pub fn replaces_only_failed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    let policy = spec.and_then(|spec| spec.pod_replacement_policy.as_deref());
    policy == Some("Failed") || spec.is_some_and(|spec| spec.pod_failure_policy.is_some())
}

pub fn is_failed(job: &Job, pod: &Pod) -> bool {
    let failed = pods::phase(pod) == "Failed";
    failed || (!replaces_only_failed(job) && pods::is_terminating(pod) && pods::phase(pod) != "Succeeded")
}

pub fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let matched = rules.iter().enumerate().find_map(|(index, rule)| Some((index, rule, matching(rule, pod)?)));
    match matched {
        Some((_, rule, _)) if rule.action == "Ignore" => Verdict::Ignore,
        Some((_, rule, _)) if rule.action == "FailIndex" => Verdict::FailIndex,
        Some((index, rule, why)) if rule.action == "FailJob" => {
            Verdict::FailJob(format!("{why} matching FailJob rule at index {index}"))
        }
        _ => Verdict::Count,
    }
}

/// Why the rule matches, if it does.
fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let who = format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pods::name(pod));
    if let Some(codes) = &rule.on_exit_codes {
        let named = |status: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| name == &status.name);
        let mut ended = statuses(pod).filter(named).filter_map(|status| {
            let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
            Some((status.name.as_str(), code))
        });
        let within = |code: i32| codes.values.contains(&code) == (codes.operator == "In");
        let (name, code) = ended.find(|(_, code)| *code != 0 && within(*code))?;
        return Some(format!("Container {name} for pod {who} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let mut matched = patterns.filter(|pattern| {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        pods::condition(pod, &pattern.type_).is_some_and(|condition| condition.status == wanted)
    });
    matched.next().map(|pattern| format!("Pod {who} has condition {}", pattern.type_))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten())
}

/// Whether containers restarted in place more often than the limit allows.
pub fn restarts_exceed(job: &Job, all: &[&Pod], limit: i32) -> bool {
    let template = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let running = all.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
    let restarts: i32 = running.flat_map(|pod| statuses(pod)).map(|status| status.restart_count).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// How long to wait before creating a pod, after the failures since the last success.
pub fn wait(job: &Job, all: &[&Pod], now: Timestamp) -> Option<SignedDuration> {
    let last_success = all.iter().filter(|pod| pods::phase(pod) == "Succeeded").filter_map(|pod| finished(pod)).max();
    let failed = all.iter().filter(|pod| is_failed(job, pod)).filter_map(|pod| finished(pod));
    let since: Vec<Timestamp> = failed.filter(|at| last_success.is_none_or(|success| *at > success)).collect();
    let last = since.iter().max()?;
    let delay = delay(u32::try_from(since.len() - 1).unwrap_or(u32::MAX));
    Some((*last + delay).duration_since(now)).filter(SignedDuration::is_positive)
}

/// The delay after the first failure and so many more.
pub fn delay(more: u32) -> SignedDuration {
    SignedDuration::from_secs((FIRST_DELAY << more.min(10)).min(LAST_DELAY))
}

/// When the pod's last container ended, as far as it is known.
pub fn finished(pod: &Pod) -> Option<Timestamp> {
    let ended = statuses(pod).filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.clone());
    let ended = ended.map(|time| time.0).max();
    let ready = || pods::condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0);
    let deleted = || pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    ended.or_else(ready).or_else(deleted).or_else(created)
}
