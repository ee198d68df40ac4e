//! The next actions of a pod that should run: upstream's computePodActions.
//!
//! Must not know: how an action is done. `init` holds the rules of init containers.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::init;
use super::pod::{self, Kind};
use super::probing::{ProbeKind, Results};
use super::resize::{self, Change, Size};
use super::restart::{self, BackOff, restarts_after};
use super::seen::{self, Seen, State};

/// What a plan reads.
pub struct Snapshot<'a> {
    pub pod: &'a Pod,
    pub seen: &'a Seen,
    pub probes: &'a Results,
    /// What running containers were given, by name.
    pub given: &'a BTreeMap<String, Size>,
    /// Restart back-off by container name.
    pub backoffs: &'a BTreeMap<String, BackOff>,
    pub max_backoff: Duration,
    pub now: Timestamp,
}

/// What to do, in this order: end the pod, kill, resize, create the sandbox, start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Stop every container and sandbox (before a new sandbox, or because the pod is over).
    pub end_pod: bool,
    /// Create a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    pub kill: Vec<Kill>,
    /// Running containers, by name, to be given what is allocated to them.
    pub resize: Vec<String>,
    pub start: Vec<Start>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub kind: Kind,
    pub name: String,
    pub restart_count: i32,
    /// Still in back-off: do not start, look again after `remaining`. `delay` is the whole back-off.
    pub wait: Option<Wait>,
    /// The container that ended before this start, for the back-off's next entry.
    pub previous_end: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    pub remaining: Duration,
    pub delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    StartupProbe,
    LivenessProbe,
    DefinitionChanged,
    Resize,
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub reason: KillReason,
    /// The event's text after `Stopping container `… is replaced by this one.
    pub message: String,
}

impl Plan {
    /// The next time at which the plan changes by itself: the end of the shortest back-off.
    pub fn wake_after(&self) -> Option<Duration> {
        self.start.iter().filter_map(|start| start.wait.as_ref()).map(|wait| wait.remaining).min()
    }
}

/// The sandbox question: whether a new one is needed, and its attempt. Upstream's PodSandboxChanged.
pub fn sandbox_changed(pod: &Pod, seen: &Seen) -> (bool, u32) {
    let Some(newest) = seen.sandboxes.first() else { return (true, 0) };
    let ready = seen.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    let next = newest.attempt + 1;
    let changed = ready > 1
        || !newest.ready
        || newest.host_network != pod::host_network(pod)
        || (!newest.host_network && newest.ips.is_empty());
    (changed, if changed { next } else { newest.attempt })
}

/// The plan of a pod that is not being deleted and whose phase is not terminal.
pub fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let Some(spec) = &snapshot.pod.spec else { return Plan::default() };
    let (changed, attempt) = sandbox_changed(snapshot.pod, snapshot.seen);
    if changed { new_sandbox(snapshot, spec, attempt) } else { same_sandbox(snapshot, spec) }
}

fn new_sandbox(snapshot: &Snapshot<'_>, spec: &PodSpec, attempt: u32) -> Plan {
    let mut plan = Plan { end_pod: true, ..Plan::default() };
    let never = spec.restart_policy.as_deref() == Some("Never");
    if never && attempt != 0 && !snapshot.seen.containers.is_empty() {
        return plan;
    }
    let wanted: Vec<&Container> =
        spec.containers.iter().filter(|container| !succeeded_once(container, spec, snapshot.seen)).collect();
    let created = |container: &Container| snapshot.seen.latest(&container.name).is_some();
    if wanted.is_empty() && spec.containers.iter().any(created) {
        return plan;
    }
    plan.create_sandbox = Some(attempt);
    match pod::init_containers(spec).first() {
        Some(first) => plan.start.push(start(snapshot, Kind::Init, first)),
        None => plan.start.extend(wanted.into_iter().map(|container| start(snapshot, Kind::Regular, container))),
    }
    plan
}

fn succeeded_once(container: &Container, spec: &PodSpec, seen: &Seen) -> bool {
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
    let ended_well = |latest: &seen::Container| latest.state == State::Exited && latest.exit_code == 0;
    policy == Some("OnFailure") && seen.latest(&container.name).is_some_and(ended_well)
}

fn same_sandbox(snapshot: &Snapshot<'_>, spec: &PodSpec) -> Plan {
    let mut plan = Plan::default();
    for ephemeral in pod::ephemeral_containers(spec) {
        if snapshot.seen.latest(&ephemeral.name).is_none() {
            plan.start.push(start(snapshot, Kind::Ephemeral, &pod::from_ephemeral(ephemeral)));
        }
    }
    let initialized = init::plan(snapshot, spec, &mut plan);
    if plan.end_pod || !initialized {
        return plan;
    }
    let before = plan.start.len();
    let kept = spec.containers.iter().filter(|container| regular(snapshot, spec, container, &mut plan)).count();
    if kept == 0 && plan.start.len() == before {
        plan.end_pod = true;
        plan.start.retain(|start| start.kind == Kind::Ephemeral);
    }
    plan
}

/// Decides one regular container; true when it keeps running as it is.
fn regular(snapshot: &Snapshot<'_>, spec: &PodSpec, container: &Container, plan: &mut Plan) -> bool {
    let latest = snapshot.seen.latest(&container.name);
    let Some(running) = latest.filter(|latest| latest.state == State::Running) else {
        if restart::should_restart(container, Kind::Regular, snapshot.pod, snapshot.seen) {
            plan.kill.extend(latest.filter(|latest| latest.state == State::Unknown).map(kill_unknown));
            plan.start.push(start(snapshot, Kind::Regular, container));
        }
        return false;
    };
    let Some((reason, what)) = fault(snapshot, container, running) else {
        let restarts = resized(snapshot, container, running, plan);
        plan.start.extend(restarts.then(|| start(snapshot, Kind::Regular, container)));
        return !restarts;
    };
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
    let mut message = format!("Container {} {what}", container.name);
    if policy != Some("Never") || reason == KillReason::DefinitionChanged {
        message.push_str(", will be restarted");
        plan.start.push(start(snapshot, Kind::Regular, container));
    }
    plan.kill.push(Kill { id: running.id.clone(), name: container.name.clone(), reason, message });
    false
}

/// Why a running container has to be killed.
pub(super) fn fault(
    snapshot: &Snapshot<'_>,
    container: &Container,
    running: &seen::Container,
) -> Option<(KillReason, &'static str)> {
    let failed = |kind| snapshot.probes.failed(&running.id, kind);
    if running.hash != hash(container) {
        Some((KillReason::DefinitionChanged, "definition changed"))
    } else if container.liveness_probe.is_some() && failed(ProbeKind::Liveness) {
        Some((KillReason::LivenessProbe, "failed liveness probe"))
    } else if container.startup_probe.is_some() && failed(ProbeKind::Startup) {
        Some((KillReason::StartupProbe, "failed startup probe"))
    } else {
        None
    }
}

/// Plans what a running container's size asks for; true when it has to start again for it.
pub(super) fn resized(
    snapshot: &Snapshot<'_>,
    container: &Container,
    running: &seen::Container,
    plan: &mut Plan,
) -> bool {
    match resize::change(container, snapshot.given.get(&container.name)) {
        Change::None => false,
        Change::InPlace => {
            plan.resize.push(container.name.clone());
            false
        }
        Change::Restart => {
            let message = format!("Container {} resize requires restart", container.name);
            let (id, name) = (running.id.clone(), container.name.clone());
            plan.kill.push(Kill { id, name, reason: KillReason::Resize, message });
            true
        }
    }
}

pub(super) fn kill_unknown(container: &seen::Container) -> Kill {
    Kill {
        id: container.id.clone(),
        name: container.name.clone(),
        reason: KillReason::Unknown,
        message: "Container is in \"unknown\" state, try killing it before restart".into(),
    }
}

/// A start with its restart count and, after a failure, its back-off.
pub(super) fn start(snapshot: &Snapshot<'_>, kind: Kind, container: &Container) -> Start {
    let latest = snapshot.seen.latest(&container.name);
    let restart_count = match latest {
        Some(latest) => latest.restart_count + 1,
        None => count_from_status(snapshot.pod, kind, &container.name),
    };
    let previous_end = latest.filter(|latest| latest.state == State::Exited).and_then(|latest| latest.finished_at);
    let entry = snapshot.backoffs.get(&container.name);
    let wait = previous_end.and_then(|finished| {
        let remaining = BackOff::remaining(entry, finished, snapshot.now, snapshot.max_backoff);
        let delay = entry.map(|entry| entry.delay)?;
        (remaining > Duration::ZERO).then_some(Wait { remaining, delay })
    });
    Start { kind, name: container.name.clone(), restart_count, wait, previous_end }
}

/// The runtime lost the container (a reboot, a cleaned runtime): the API's status still has the count.
fn count_from_status(pod: &Pod, kind: Kind, name: &str) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let list = if kind == Kind::Init { &status.init_container_statuses } else { &status.container_statuses };
    let old = list.as_deref().unwrap_or_default().iter().find(|old| old.name == name);
    match old.filter(|old| old.container_id.as_deref().is_some_and(|id| !id.is_empty())) {
        Some(old) => old.restart_count + 1,
        None => old.map_or(0, |old| old.restart_count),
    }
}

/// `io.kubernetes.container.hash`: over what a running container's change would mean a restart, name and image.
/// FNV-1a, 32 bits, in hexadecimal, as upstream's is; the bytes hashed are our own.
pub fn hash(container: &Container) -> String {
    let bytes = format!("{}\n{}", container.name, container.image.as_deref().unwrap_or_default());
    let hash = bytes.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

/// An init container that ended in failure for good ends the pod.
pub(super) fn failed_for_good(container: &Container, spec: &PodSpec, latest: &seen::Container) -> bool {
    latest.exit_code != 0 && !restarts_after(container, Kind::Init, spec, latest.exit_code)
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod tests;
