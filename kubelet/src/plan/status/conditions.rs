//! The conditions the kubelet owns; everybody else's are kept as they are.
//!
//! Must not know: how containers were seen.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::actions::sandbox_changed;
use super::super::pod;
use super::Inputs;

/// The types this kubelet writes, in the order upstream does.
pub const OWNED: [&str; 7] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", PENDING, IN_PROGRESS];
const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";

/// A condition's value: status, reason, message.
type Value = (bool, Option<&'static str>, Option<String>);

pub fn conditions(
    inputs: &Inputs<'_>,
    old: &PodStatus,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> Vec<PodCondition> {
    let Some(spec) = &inputs.pod.spec else { return Vec::new() };
    let previous = old.conditions.as_deref().unwrap_or_default();
    let statuses: Vec<&ContainerStatus> = init.iter().chain(regular).collect();
    let containers_ready = containers_ready(spec, &statuses, phase);
    let values: [Value; 5] = [
        (!sandbox_changed(inputs.pod, inputs.seen).0, None, None),
        initialized(spec, &statuses, regular, phase),
        ready(spec, previous, &containers_ready),
        containers_ready,
        (true, None, None),
    ];
    let ours = OWNED.iter().zip(values).map(|(type_, value)| condition(inputs, previous, type_, value));
    let foreign = previous.iter().filter(|one| !OWNED.contains(&one.type_.as_str())).cloned();
    ours.chain(resizes(inputs)).chain(foreign).collect()
}

/// They are there only while they are so.
fn resizes<'a>(inputs: &'a Inputs<'_>) -> impl Iterator<Item = PodCondition> + 'a {
    let both = [(PENDING, &inputs.resizing.pending), (IN_PROGRESS, &inputs.resizing.in_progress)];
    both.into_iter().filter_map(|(type_, one)| {
        let one = one.as_ref().filter(|_| !inputs.terminal)?;
        Some(PodCondition {
            type_: type_.into(),
            status: "True".into(),
            reason: one.reason.clone(),
            message: one.message.clone(),
            last_probe_time: Some(Time(one.since)),
            last_transition_time: Some(Time(one.since)),
            observed_generation: one.generation,
        })
    })
}

fn condition(inputs: &Inputs<'_>, previous: &[PodCondition], type_: &str, value: Value) -> PodCondition {
    let (is_true, reason, message) = value;
    let status = if is_true { "True" } else { "False" };
    let old = previous.iter().find(|one| one.type_ == type_);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    PodCondition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.map(Into::into),
        message,
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or(Time(inputs.now))),
        observed_generation: inputs.pod.metadata.generation,
    }
}

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn unready_message(unknown: &[&str], what: &str, unready: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", list(unknown)));
    }
    if !unready.is_empty() {
        parts.push(format!("containers with {what} status: {}", list(unready)));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn containers_ready(spec: &PodSpec, statuses: &[&ContainerStatus], phase: &str) -> Value {
    let sidecars = pod::init_containers(spec).iter().filter(|container| pod::is_sidecar(container));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in sidecars.chain(&spec.containers) {
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match phase {
        "Failed" => return (false, Some("PodFailed"), None),
        "Succeeded" if unknown.is_empty() => return (false, Some("PodCompleted"), None),
        _ => {}
    }
    match unready_message(&unknown, "unready", &unready) {
        Some(message) => (false, Some("ContainersNotReady"), Some(message)),
        None => (true, None, None),
    }
}

/// Ready is ContainersReady and every readiness gate.
fn ready(spec: &PodSpec, previous: &[PodCondition], containers_ready: &Value) -> Value {
    if !containers_ready.0 {
        return containers_ready.clone();
    }
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    let missing: Vec<String> = gates.iter().filter_map(|gate| gate_message(&gate.condition_type, previous)).collect();
    if missing.is_empty() {
        return (true, None, None);
    }
    (false, Some("ReadinessGatesNotReady"), Some(missing.join(", ")))
}

fn gate_message(gate: &str, conditions: &[PodCondition]) -> Option<String> {
    match conditions.iter().find(|one| one.type_ == gate) {
        None => Some(format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")),
        Some(one) if one.status != "True" => {
            Some(format!("the status of pod readiness gate \"{gate}\" is not \"True\", but {}", one.status))
        }
        Some(_) => None,
    }
}

fn initialized(spec: &PodSpec, statuses: &[&ContainerStatus], regular: &[ContainerStatus], phase: &str) -> Value {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod::init_containers(spec) {
        let through = |status: &ContainerStatus| {
            if pod::is_sidecar(container) { status.started == Some(true) } else { status.ready }
        };
        match statuses.iter().find(|status| status.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !through(status) => incomplete.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return (true, Some("PodCompleted"), None);
    }
    if regular.iter().any(has_started) {
        return (true, None, None);
    }
    match unready_message(&unknown, "incomplete", &incomplete) {
        Some(message) => (false, Some("ContainersNotInitialized"), Some(message)),
        None => (true, None, None),
    }
}

fn has_started(status: &ContainerStatus) -> bool {
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().is_some_and(|state| state.terminated.is_some())
    };
    status.started == Some(true)
        || status.state.as_ref().is_some_and(|state| state.running.is_some())
        || ended(&status.state)
        || ended(&status.last_state)
}
