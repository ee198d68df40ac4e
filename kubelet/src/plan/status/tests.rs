//! What was seen, to statuses: as tables.

use std::collections::BTreeMap;

use super::super::probing::{ProbeKind, Results};
use super::super::resize::Resizing;
use super::super::seen::{Seen, State};
use super::super::testing::{at, container, pod, sandbox, seen};
use super::{Inputs, status};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

const ONE: &str = "  containers: [{name: a, image: i}]\n";

fn of(pod: &Pod, seen: &Seen, probes: &Results, waiting: &[(&str, &str)], terminal: bool) -> PodStatus {
    let waiting: BTreeMap<_, _> =
        waiting.iter().map(|(n, r)| (n.to_string(), (r.to_string(), "why".to_string()))).collect();
    status(&Inputs {
        pod,
        seen,
        probes,
        waiting: &waiting,
        given: &BTreeMap::new(),
        resizing: &Resizing::default(),
        node_ips: &["192.0.2.1".to_string()],
        runtime: "containerd",
        terminal,
        ended: None,
        now: at(50),
    })
}

fn simple(spec: &str, seen: &Seen) -> PodStatus {
    of(&pod(spec), seen, &Results::default(), &[], false)
}

fn conditions(status: &PodStatus) -> String {
    let all = status.conditions.as_deref().unwrap_or_default();
    all.iter().map(|one| format!("{}={}", one.type_, one.status)).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_new_pod_is_pending_and_its_container_is_being_created() {
    let status = simple(ONE, &seen(vec![], vec![]));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().reason.as_deref(), Some("ContainerCreating"));
    assert_eq!(
        conditions(&status),
        "PodReadyToStartContainers=False Initialized=True Ready=False ContainersReady=False PodScheduled=True"
    );
}

#[test]
fn a_running_container_without_probes_is_started_and_ready() {
    let status = simple(ONE, &seen(vec![sandbox(0, true)], vec![container("a", "i", State::Running, 0)]));
    assert_eq!((status.phase.as_deref(), status.pod_ip.as_deref()), (Some("Running"), Some("10.244.0.5")));
    let one = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!((one.ready, one.started, one.container_id.as_deref()), (true, Some(true), Some("containerd://a-0")));
    assert!(conditions(&status).contains("Ready=True ContainersReady=True"));
}

#[test]
fn readiness_waits_for_its_probe() {
    let spec = "  containers: [{name: a, image: i, readinessProbe: {exec: {command: [x]}}}]\n";
    let seen = seen(vec![sandbox(0, true)], vec![container("a", "i", State::Running, 0)]);
    let mut probes = Results::default();
    let ready = |probes: &Results| of(&pod(spec), &seen, probes, &[], false).container_statuses.unwrap()[0].ready;
    assert!(!ready(&probes));
    probes.0.insert(("a-0".into(), ProbeKind::Readiness), true);
    assert!(ready(&probes));
}

#[test]
fn a_crashing_container_waits_and_its_end_is_its_last_state() {
    let seen = seen(vec![sandbox(0, true)], vec![container("a", "i", State::Exited, 3)]);
    let status = of(&pod(ONE), &seen, &Results::default(), &[("a", "CrashLoopBackOff")], false);
    let one = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(one.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(one.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn finished_pods_succeed_or_fail() {
    let never = format!("  restartPolicy: Never\n{ONE}");
    let ended = |code| seen(vec![sandbox(0, false)], vec![container("a", "i", State::Exited, code)]);
    assert_eq!(simple(&never, &ended(0)).phase.as_deref(), Some("Succeeded"));
    assert_eq!(simple(&never, &ended(1)).phase.as_deref(), Some("Failed"));
    assert_eq!(simple(ONE, &ended(0)).phase.as_deref(), Some("Running"));
    assert_eq!(of(&pod(ONE), &ended(0), &Results::default(), &[], true).phase.as_deref(), Some("Succeeded"));
}

#[test]
fn a_pod_that_ends_before_it_ran_has_failed() {
    assert_eq!(of(&pod(ONE), &seen(vec![], vec![]), &Results::default(), &[], true).phase.as_deref(), Some("Failed"));
}

#[test]
fn init_containers_gate_the_phase_and_initialized() {
    let spec = "  initContainers: [{name: one, image: i}]\n  containers: [{name: a, image: i}]\n";
    let status = simple(spec, &seen(vec![sandbox(0, true)], vec![container("one", "i", State::Running, 0)]));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let initialized = status.conditions.unwrap().into_iter().find(|one| one.type_ == "Initialized").unwrap();
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [one]"));
}

#[test]
fn a_container_the_runtime_lost_counts_as_a_restart() {
    let mut pod = pod(ONE);
    let running = seen(vec![sandbox(0, true)], vec![container("a", "i", State::Running, 0)]);
    pod.status = Some(of(&pod, &running, &Results::default(), &[], false));
    let status = of(&pod, &seen(vec![], vec![]), &Results::default(), &[], false);
    let one = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(one.restart_count, 1);
    assert_eq!(one.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 137);
}

#[test]
fn a_readiness_gate_and_its_foreign_condition_are_kept() {
    let mut pod = pod(&format!("  readinessGates: [{{conditionType: gate}}]\n{ONE}"));
    pod.status = serde_json::from_str(r#"{"conditions":[{"type":"gate","status":"False"}]}"#).unwrap();
    let seen = seen(vec![sandbox(0, true)], vec![container("a", "i", State::Running, 0)]);
    let status = of(&pod, &seen, &Results::default(), &[], false);
    assert!(conditions(&status).ends_with("Ready=False ContainersReady=True PodScheduled=True gate=False"));
}
