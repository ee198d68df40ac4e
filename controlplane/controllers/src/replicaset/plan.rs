//! How many pods a ReplicaSet lacks or which ones it has too many, and its status. The order in which pods are given up
//! is upstream's (`ActivePodsWithRanks`).
//!
//! Must not know: the API, clocks.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::pods;

/// No sync creates or deletes more pods than this; the next one goes on.
const BURST: usize = 500;

#[derive(Debug, PartialEq)]
pub enum Plan<'a> {
    Nothing,
    Create(usize),
    Delete(Vec<&'a Pod>),
}

/// `active` are the pods that count; `related` the active pods of all sets with the same owner (to spread deletions).
pub fn plan<'a>(wanted: i32, active: &[&'a Pod], related: &[&Pod], now: Timestamp) -> Plan<'a> {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    match active.len().cmp(&wanted) {
        Ordering::Equal => Plan::Nothing,
        Ordering::Less => Plan::Create((wanted - active.len()).min(BURST)),
        Ordering::Greater => Plan::Delete(to_delete(active, related, (active.len() - wanted).min(BURST), now)),
    }
}

fn to_delete<'a>(active: &[&'a Pod], related: &[&Pod], count: usize, now: Timestamp) -> Vec<&'a Pod> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *on_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    let mut candidates: Vec<&Pod> = active.to_vec();
    let key = |pod: &Pod| deletion_key(pod, on_node.get(pods::node_name(pod)).copied().unwrap_or(0), now);
    candidates.sort_by_cached_key(|pod| key(pod));
    candidates.truncate(count);
    candidates
}

/// Smaller is given up first.
fn deletion_key(pod: &Pod, rank: usize, now: Timestamp) -> impl Ord + use<> {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod.metadata.annotations.as_ref().and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost"));
    let cost: i32 = cost.and_then(|cost| cost.parse().ok()).unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        !pods::node_name(pod).is_empty(),
        phase,
        pods::is_ready(pod),
        cost,
        Reverse(rank),
        age_rank(pods::ready_since(pod), now),
        Reverse(pods::most_restarts(pod)),
        age_rank(created, now),
        pods::uid(pod).to_owned(),
    )
}

/// Ages compare by their power of two: among pods of about the same age none is singled out for being the newest.
fn age_rank(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let nanoseconds = since.map_or(0, |since| now.duration_since(since).as_nanos().max(0));
    if nanoseconds == 0 { -1 } else { i64::from(nanoseconds.ilog2()) }
}

/// The status to report. `failure` is why pods could not be created or deleted.
pub fn status(
    set: &ReplicaSet,
    active: &[&Pod],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let template =
        spec.template.and_then(|template| template.metadata).and_then(|meta| meta.labels).unwrap_or_default();
    let labeled = |pod: &&&Pod| {
        let labels = pod.metadata.labels.as_ref();
        template.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let some = |number: usize| Some(count(number)).filter(|number| *number > 0);
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(active.iter().filter(labeled).count()),
        ready_replicas: some(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: some(active.iter().filter(|pod| pods::is_available(pod, min_ready, now)).count()),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, active.len(), failure, now),
    }
}

fn conditions(
    set: &ReplicaSet,
    active: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let old = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let failed = old.iter().any(|condition| condition.type_ == "ReplicaFailure");
    let mut all = old;
    match failure {
        None => all.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(message) if !failed => {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let lacking = i32::try_from(active).unwrap_or(i32::MAX) < wanted;
            all.push(ReplicaSetCondition {
                type_: "ReplicaFailure".into(),
                status: "True".into(),
                reason: Some(if lacking { "FailedCreate" } else { "FailedDelete" }.into()),
                message: Some(message.into()),
                last_transition_time: Some(Time(now)),
            });
        }
        Some(_) => {}
    }
    Some(all).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// `name node phase ready-since? created restarts`
    fn pod(name: &str, node: &str, phase: &str, ready: Option<i64>, created: i64, restarts: i32) -> Pod {
        let conditions: Vec<_> = ready
            .map(|ready| json!({"type": "Ready", "status": "True", "lastTransitionTime": at(ready).to_string()}))
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": at(created).to_string(), "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": conditions, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": restarts}]},
        }))
        .unwrap()
    }

    fn given_up(pods: &[Pod], count: usize) -> Vec<String> {
        let all: Vec<&Pod> = pods.iter().collect();
        let wanted = i32::try_from(pods.len() - count).unwrap();
        let Plan::Delete(pods) = plan(wanted, &all, &all, at(1000)) else { panic!("deletes") };
        pods.iter().map(|pod| pods::name(pod).to_owned()).collect()
    }

    #[test]
    fn pods_that_serve_least_are_given_up_first() {
        let pods = [
            pod("old-ready", "n1", "Running", Some(0), 0, 0),
            pod("restarted", "n2", "Running", Some(0), 0, 3),
            pod("young-ready", "n3", "Running", Some(990), 980, 0),
            pod("not-ready", "n4", "Running", None, 0, 0),
            pod("pending", "n5", "Pending", None, 0, 0),
            pod("unassigned", "", "Pending", None, 0, 0),
        ];
        let order = ["unassigned", "pending", "not-ready", "young-ready", "restarted"];
        assert_eq!(given_up(&pods, 5), order);
    }

    #[test]
    fn a_pod_on_a_node_with_others_goes_before_one_alone() {
        let pods = [
            pod("alone", "n1", "Running", Some(0), 0, 0),
            pod("pair-a", "n2", "Running", Some(0), 0, 0),
            pod("pair-b", "n2", "Running", Some(0), 0, 0),
        ];
        assert_eq!(given_up(&pods, 1), ["pair-a"]);
    }

    #[test]
    fn what_lacks_is_created_up_to_the_burst() {
        assert_eq!(plan(3, &[], &[], at(0)), Plan::Create(3));
        assert_eq!(plan(1000, &[], &[], at(0)), Plan::Create(500));
        assert_eq!(plan(0, &[], &[], at(0)), Plan::Nothing);
    }

    #[test]
    fn status_counts_and_says_why_pods_could_not_be_created() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 4},
            "spec": {"replicas": 3, "minReadySeconds": 10, "selector": {}, "template": {"metadata": {"labels": {"app": "web"}}}},
        }))
        .unwrap();
        let pods = [pod("a", "n", "Running", Some(0), 0, 0), pod("b", "n", "Running", Some(995), 0, 0)];
        let all: Vec<&Pod> = pods.iter().collect();
        let status = status(&set, &all, 1, Some("quota"), at(1000));
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(2), Some(1)));
        assert_eq!((status.fully_labeled_replicas, status.terminating_replicas), (Some(2), Some(1)));
        assert_eq!(status.conditions.unwrap()[0].reason.as_deref(), Some("FailedCreate"));
    }
}
