//! Pods and what was seen of them, to actions: as tables.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::probing::{ProbeKind, Results};
use super::super::restart::BackOff;
use super::super::seen::State::{Exited, Running};
use super::super::testing::{at, container, planned, pod, sandbox, seen};

const TWO: &str = "  containers: [{name: a, image: i}, {name: b, image: i}]\n";
const INIT: &str =
    "  initContainers: [{name: one, image: i}, {name: two, image: i}]\n  containers: [{name: a, image: i}]\n";
const SIDECAR: &str = "  initContainers: [{name: side, image: i, restartPolicy: Always}, {name: one, image: i}]\n  containers: [{name: a, image: i}]\n";

fn plan(spec: &str, seen: super::Seen) -> Vec<String> {
    planned(&pod(spec), &seen, &Results::default(), &BTreeMap::new())
}

fn up(containers: Vec<super::seen::Container>) -> super::Seen {
    seen(vec![sandbox(0, true)], containers)
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    assert_eq!(plan(TWO, seen(vec![], vec![])), ["end", "sandbox 0", "start a #0", "start b #0"]);
}

#[test]
fn a_new_pod_with_init_containers_starts_the_first_alone() {
    assert_eq!(plan(INIT, seen(vec![], vec![])), ["end", "sandbox 0", "start one #0"]);
    assert_eq!(plan(INIT, up(vec![])), ["start one #0"]);
}

#[test]
fn init_containers_run_one_after_the_other_then_the_rest_starts() {
    assert!(plan(INIT, up(vec![container("one", "i", Running, 0)])).is_empty());
    assert_eq!(plan(INIT, up(vec![container("one", "i", Exited, 0)])), ["start two #0"]);
    let done = vec![container("two", "i", Exited, 0), container("one", "i", Exited, 0)];
    assert_eq!(plan(INIT, up(done)), ["start a #0"]);
}

#[test]
fn a_failed_init_container_restarts_or_ends_a_pod_that_never_restarts() {
    let failed = || up(vec![container("one", "i", Exited, 1)]);
    assert_eq!(plan(INIT, failed()), ["start one #1"]);
    assert_eq!(plan(&format!("  restartPolicy: Never\n{INIT}"), failed()), ["end"]);
}

#[test]
fn removed_init_containers_do_not_run_again_while_the_pod_runs() {
    assert!(plan(INIT, up(vec![container("a", "i", Running, 0)])).is_empty());
}

#[test]
fn a_sidecar_that_runs_lets_the_next_one_start_and_restarts_for_ever() {
    assert_eq!(plan(SIDECAR, up(vec![container("side", "i", Running, 0)])), ["start one #0"]);
    let ended =
        vec![container("a", "i", Running, 0), container("one", "i", Exited, 0), container("side", "i", Exited, 0)];
    assert_eq!(plan(SIDECAR, up(ended)), ["start side #1"]);
}

#[test]
fn a_running_pod_needs_nothing() {
    assert!(plan(TWO, up(vec![container("a", "i", Running, 0), container("b", "i", Running, 0)])).is_empty());
}

#[test]
fn an_ended_container_restarts_as_its_policy_says() {
    let one_ended = |code| up(vec![container("a", "i", Exited, code), container("b", "i", Running, 0)]);
    assert_eq!(plan(TWO, one_ended(0)), ["start a #1"]);
    let on_failure = format!("  restartPolicy: OnFailure\n{TWO}");
    assert!(plan(&on_failure, one_ended(0)).is_empty());
    assert_eq!(plan(&on_failure, one_ended(1)), ["start a #1"]);
    assert!(plan(&format!("  restartPolicy: Never\n{TWO}"), one_ended(1)).is_empty());
}

#[test]
fn a_pod_whose_containers_are_all_done_ends() {
    let done = up(vec![container("a", "i", Exited, 0), container("b", "i", Exited, 0)]);
    assert_eq!(plan(&format!("  restartPolicy: Never\n{TWO}"), done), ["end"]);
}

#[test]
fn a_failed_liveness_probe_kills_and_restarts() {
    let spec = "  containers: [{name: a, image: i, livenessProbe: {exec: {command: [x]}}}]\n";
    let mut probes = Results::default();
    probes.0.insert(("a-0".into(), ProbeKind::Liveness), false);
    let lines = planned(&pod(spec), &up(vec![container("a", "i", Running, 0)]), &probes, &BTreeMap::new());
    assert_eq!(lines, ["kill a: Container a failed liveness probe, will be restarted", "start a #1"]);
}

#[test]
fn a_changed_image_restarts_the_container_alone() {
    let lines = plan(TWO, up(vec![container("a", "old", Running, 0), container("b", "i", Running, 0)]));
    assert_eq!(lines, ["kill a: Container a definition changed, will be restarted", "start a #1"]);
}

#[test]
fn a_crashing_container_waits_for_its_back_off() {
    let backoffs = BTreeMap::from([("a".to_string(), BackOff { delay: Duration::from_secs(10), updated: at(0) })]);
    let crashed = up(vec![container("a", "i", Exited, 1), container("b", "i", Running, 0)]);
    assert_eq!(planned(&pod(TWO), &crashed, &Results::default(), &backoffs), ["wait a"]);
}

#[test]
fn a_lost_sandbox_is_replaced_with_the_next_attempt() {
    let gone = seen(vec![sandbox(0, false)], vec![container("a", "i", Exited, 137), container("b", "i", Exited, 137)]);
    assert_eq!(plan(TWO, gone.clone()), ["end", "sandbox 1", "start a #1", "start b #1"]);
    assert_eq!(plan(&format!("  restartPolicy: Never\n{TWO}"), gone), ["end"]);
}
