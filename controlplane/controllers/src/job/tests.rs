//! Jobs as stories: pods in, pods and conditions out.

use std::collections::HashSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::new_pod;
use super::plan::{Plan, has_finalizer, is_finished, plan};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn job(spec: Value) -> Job {
    let mut all = json!({"backoffLimit": 6, "parallelism": 1, "completions": 1,
        "template": {"metadata": {"labels": {"job-name": "pi"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "pi"}]}}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "pi", "namespace": "default", "uid": "j"}, "spec": all}))
        .unwrap()
}

/// Plays the API; pods do what the test says.
struct World {
    job: Job,
    pods: Vec<Pod>,
    clock: i64,
    made: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        Self { job: job(spec), pods: Vec::new(), clock: 0, made: 0 }
    }

    /// Syncs until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..20 {
            let before = (self.job.clone(), self.pods.clone());
            self.step();
            if before == (self.job.clone(), self.pods.clone()) {
                return;
            }
        }
        panic!("never settles: {:?}", self.job.status);
    }

    fn step(&mut self) {
        if is_finished(self.job.status.as_ref()) {
            return;
        }
        let (create, failures, delete, release, status) = {
            let pods: Vec<&Pod> = self.pods.iter().collect();
            let Plan { create, failures, delete, release, status, .. } =
                plan(&self.job, &pods, &HashSet::new(), at(self.clock));
            let uids =
                |pods: Vec<&Pod>| -> Vec<String> { pods.iter().map(|pod| pod.metadata.uid.clone().unwrap()).collect() };
            (create, failures, uids(delete), uids(release), status)
        };
        self.job.status = Some(status);
        let named = |pod: &Pod, uids: &[String]| uids.contains(pod.metadata.uid.as_ref().unwrap());
        for pod in self.pods.iter_mut().filter(|pod| named(pod, &release)) {
            pod.metadata.finalizers = None;
        }
        self.pods.retain(|pod| !named(pod, &delete));
        for index in create {
            let before = index.and_then(|index| failures.get(&index)).copied().unwrap_or(0);
            let mut pod = new_pod(&self.job, index, before);
            self.made += 1;
            pod.metadata.uid = Some(format!("p{}", self.made));
            pod.metadata.name = pod.metadata.uid.clone();
            pod.metadata.creation_timestamp = Some(at(self.clock).into());
            pod.status = serde_json::from_value(json!({"phase": "Running"})).unwrap();
            self.pods.push(pod);
        }
    }

    /// The first running pod ends.
    fn end(&mut self, exit_code: i32) {
        let running = |pod: &&mut Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running");
        let pod = self.pods.iter_mut().find(running).expect("a pod runs");
        let phase = if exit_code == 0 { "Succeeded" } else { "Failed" };
        pod.status = serde_json::from_value(json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": exit_code, "finishedAt": at(self.clock).to_string()}}}]}))
        .unwrap();
        self.settle();
    }

    fn running(&self) -> usize {
        self.pods.iter().filter(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running")).count()
    }

    /// `active succeeded failed conditions`
    fn summary(&self) -> String {
        let status = self.job.status.as_ref().unwrap();
        let conditions = status.conditions.iter().flatten().filter(|condition| condition.status == "True");
        let conditions: Vec<String> =
            conditions.map(|c| format!("{}:{}", c.type_, c.reason.as_deref().unwrap_or_default())).collect();
        let count = |number: Option<i32>| number.unwrap_or(0);
        format!(
            "{} {} {} {}",
            count(status.active),
            count(status.succeeded),
            count(status.failed),
            conditions.join(" ")
        )
    }
}

#[test]
fn a_job_runs_its_pods_counts_each_once_and_completes() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 2}));
    world.settle();
    assert_eq!((world.running(), world.summary().as_str()), (2, "2 0 0 "));
    world.end(0);
    assert_eq!(world.summary(), "2 1 0 ");
    world.end(0);
    world.end(0);
    assert_eq!(world.summary(), "0 3 0 SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached");
    assert!(world.job.status.as_ref().unwrap().completion_time.is_some());
    assert!(world.pods.iter().all(|pod| !has_finalizer(pod)));
}

#[test]
fn failures_back_off_and_end_the_job_at_the_limit() {
    let mut world = World::new(json!({"backoffLimit": 1}));
    world.settle();
    world.end(1);
    assert_eq!((world.running(), world.summary().as_str()), (0, "0 0 1 "));
    let pods: Vec<&Pod> = world.pods.iter().collect();
    let again = plan(&world.job, &pods, &HashSet::new(), at(world.clock)).again;
    assert_eq!(again.unwrap().as_secs(), 10);
    world.clock += 10;
    world.settle();
    assert_eq!(world.running(), 1);
    world.end(1);
    assert_eq!(world.summary(), "0 0 2 FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded");
}

#[test]
fn a_deadline_ends_the_job_and_its_pods() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30, "parallelism": 2, "completions": 2}));
    world.settle();
    world.clock += 30;
    world.settle();
    assert_eq!(world.summary(), "0 0 2 FailureTarget:DeadlineExceeded Failed:DeadlineExceeded");
    assert!(world.pods.is_empty());
}

#[test]
fn an_indexed_job_runs_each_index_until_it_succeeded() {
    let mut world = World::new(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}));
    world.settle();
    assert_eq!(world.pods[1].spec.as_ref().unwrap().hostname.as_deref(), Some("pi-1"));
    world.end(1);
    world.clock += 20;
    world.settle();
    let indexes: Vec<&str> =
        world.pods.iter().map(|pod| pod.metadata.labels.as_ref().unwrap()[super::INDEX].as_str()).collect();
    assert_eq!(indexes, ["0", "1", "0"]);
    for _ in 0..4 {
        world.end(0);
    }
    assert_eq!(world.summary(), "0 4 1 SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached");
    assert_eq!(world.job.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0-3"));
}

#[test]
fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let mut world = World::new(json!({"suspend": true}));
    world.settle();
    assert_eq!((world.running(), world.summary().as_str()), (0, "0 0 0 Suspended:JobSuspended"));
    assert!(world.job.status.as_ref().unwrap().start_time.is_none());
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.settle();
    assert_eq!((world.running(), world.summary().as_str()), (1, "1 0 0 "));
    assert!(world.job.status.as_ref().unwrap().start_time.is_some());
}

#[test]
fn a_work_queue_job_is_complete_when_one_succeeded_and_all_have_ended() {
    let mut world = World::new(json!({"completions": null, "parallelism": 3}));
    world.settle();
    world.end(0);
    assert_eq!(world.summary(), "2 1 0 ");
    world.end(0);
    world.end(0);
    assert_eq!(world.summary(), "0 3 0 SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached");
}

#[test]
fn a_pod_failure_policy_ignores_some_failures_and_fails_the_job_at_others() {
    let policy = json!({"rules": [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let mut world = World::new(json!({"backoffLimit": 0, "podFailurePolicy": policy}));
    world.settle();
    world.end(7);
    world.clock += 20;
    world.settle();
    assert_eq!((world.running(), world.summary().as_str()), (1, "1 0 0 "));
    world.end(42);
    assert_eq!(world.summary(), "0 0 1 FailureTarget:PodFailurePolicy Failed:PodFailurePolicy");
    let condition = &world.job.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    let message = "Container c for pod default/p2 failed with exit code 42 matching FailJob rule at index 1";
    assert_eq!(condition.message.as_deref(), Some(message));
}

#[test]
fn an_index_fails_on_its_own_and_the_others_go_on() {
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1}));
    world.settle();
    world.end(1);
    assert_eq!(world.running(), 1, "the index waits before it is tried again");
    assert!(has_finalizer(&world.pods[0]), "the failed pod carries the count");
    world.clock += 10;
    world.settle();
    assert_eq!((world.running(), world.summary().as_str()), (2, "2 0 1 "));
    assert!(!has_finalizer(&world.pods[0]), "its successor carries it now");
    world.end(0);
    world.end(1);
    assert_eq!(world.summary(), "0 1 2 FailureTarget:FailedIndexes Failed:FailedIndexes");
    let status = world.job.status.unwrap();
    assert_eq!((status.failed_indexes.as_deref(), status.completed_indexes.as_deref()), (Some("0"), Some("1")));
}

#[test]
fn a_policy_fails_an_index_at_once_and_too_many_failed_indexes_fail_the_job() {
    let policy = json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 3, "maxFailedIndexes": 1, "podFailurePolicy": policy}));
    world.settle();
    world.end(42);
    assert_eq!(world.job.status.as_ref().unwrap().failed_indexes.as_deref(), Some("0"));
    assert_eq!(world.running(), 2, "the next index runs");
    world.end(42);
    assert!(world.summary().contains("Failed:MaxFailedIndexesExceeded"), "{}", world.summary());
}

#[test]
fn a_job_succeeds_as_soon_as_its_policy_says() {
    let rules = json!({"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]});
    let mut world =
        World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3, "successPolicy": rules}));
    world.settle();
    world.end(0);
    assert_eq!(world.summary(), "2 1 0 ");
    world.end(0);
    assert_eq!(world.summary(), "0 2 0 SuccessCriteriaMet:SuccessPolicy Complete:SuccessPolicy");
    assert_eq!(world.running(), 0);
}
