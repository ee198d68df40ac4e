//! Container statuses: state, last state, restart count, started, ready.
//!
//! Must not know: the phase, the conditions.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::pod::{self, Kind};
use super::super::probing::ProbeKind;
use super::super::restart::should_restart;
use super::super::seen::{self, State};
use super::Inputs;

type Lists = (Vec<ContainerStatus>, Vec<ContainerStatus>, Vec<ContainerStatus>);

/// The statuses of init, regular and ephemeral containers, in the order of the spec.
pub fn statuses(inputs: &Inputs<'_>) -> Lists {
    let Some(spec) = &inputs.pod.spec else { return Lists::default() };
    let old = inputs.pod.status.clone().unwrap_or_default();
    let each = |kind, containers: &[Container], old: Option<Vec<ContainerStatus>>| {
        let old = old.unwrap_or_default();
        let status = |container: &Container| {
            one(inputs, kind, container, old.iter().find(|status| status.name == container.name))
        };
        containers.iter().map(status).collect::<Vec<_>>()
    };
    let ephemeral: Vec<Container> = pod::ephemeral_containers(spec).iter().map(pod::from_ephemeral).collect();
    (
        each(Kind::Init, pod::init_containers(spec), old.init_container_statuses),
        each(Kind::Regular, &spec.containers, old.container_statuses),
        each(Kind::Ephemeral, &ephemeral, old.ephemeral_container_statuses),
    )
}

fn one(inputs: &Inputs<'_>, kind: Kind, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    let mut instances = inputs.seen.containers.iter().filter(|seen| seen.name == container.name);
    let mut status = match instances.next() {
        Some(latest) => {
            let mut status = from_seen(inputs, container, latest, old);
            if let Some(before) = instances.next() {
                status.last_state = Some(state(inputs, before, None));
            }
            status
        }
        None => unseen(inputs, kind, container, old),
    };
    apply_waiting(inputs, kind, container, &mut status);
    apply_probes(inputs, kind, container, &mut status);
    status
}

/// A container the runtime has not: it waits, or it ended and was removed.
fn unseen(inputs: &Inputs<'_>, kind: Kind, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    if let Some(old) = old.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some())) {
        return old.clone();
    }
    let spec = inputs.pod.spec.as_ref();
    let has_init =
        kind == Kind::Regular && spec.is_some_and(|spec| !pod::init_containers(spec).is_empty()) || kind == Kind::Init;
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), message: None };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: String::new(),
        restart_count: old.map_or(0, |old| old.restart_count),
        last_state: Some(old.and_then(|old| old.last_state.clone()).unwrap_or_default()),
        state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
        volume_mounts: volume_mounts(container, &[]),
        ..ContainerStatus::default()
    };
    let was_running = old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some()));
    if was_running && status.last_state.as_ref().is_none_or(|last| last.terminated.is_none()) {
        status.last_state = Some(ContainerState { terminated: Some(lost()), ..ContainerState::default() });
        status.restart_count += i32::from(inputs.pod.metadata.deletion_timestamp.is_none());
    }
    status
}

/// A container that ran and that the runtime no longer knows.
fn lost() -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(
            "The container could not be located when the pod was deleted.  The container used to be Running".into(),
        ),
        ..ContainerStateTerminated::default()
    }
}

fn from_seen(
    inputs: &Inputs<'_>,
    container: &Container,
    latest: &seen::Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        container_id: Some(container_id(inputs, &latest.id)),
        image: latest.image.clone(),
        image_id: latest.image_ref.clone(),
        restart_count: latest.restart_count,
        state: Some(state(inputs, latest, old)),
        last_state: Some(last_state(inputs, latest, old)),
        resources: resources(inputs, container, latest),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        volume_mounts: volume_mounts(container, &latest.recursively_read_only),
        user: latest.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser { uid: *uid, gid: *gid, supplemental_groups: Some(groups.clone()) }),
        }),
        ..ContainerStatus::default()
    }
}

/// What it has, while it runs; then what it would start with.
fn resources(inputs: &Inputs<'_>, container: &Container, latest: &seen::Container) -> Option<ResourceRequirements> {
    let given = inputs.given.get(&container.name).filter(|_| latest.state == State::Running);
    match given {
        Some(given) => given.applied(container.resources.as_ref()),
        None => container.resources.clone(),
    }
}

/// The end before this instance, when the runtime no longer has it: as the API remembers it.
fn last_state(inputs: &Inputs<'_>, latest: &seen::Container, old: Option<&ContainerStatus>) -> ContainerState {
    let Some(old) = old else { return ContainerState::default() };
    let same = old.container_id.as_deref() == Some(container_id(inputs, &latest.id).as_str());
    let ended_before = old.state.clone().filter(|state| !same && state.terminated.is_some());
    ended_before.or_else(|| old.last_state.clone()).unwrap_or_default()
}

fn container_id(inputs: &Inputs<'_>, id: &str) -> String {
    format!("{}://{id}", inputs.runtime)
}

fn state(inputs: &Inputs<'_>, seen: &seen::Container, old: Option<&ContainerStatus>) -> ContainerState {
    let was_running = old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some()));
    let mut state = ContainerState::default();
    match seen.state {
        State::Running => state.running = Some(ContainerStateRunning { started_at: seen.started_at.map(Time) }),
        State::Exited => {
            state.terminated = Some(ContainerStateTerminated {
                container_id: Some(container_id(inputs, &seen.id)),
                exit_code: seen.exit_code,
                reason: Some(seen.reason.clone()).filter(|reason| !reason.is_empty()),
                message: Some(seen.message.clone()).filter(|message| !message.is_empty()),
                signal: None,
                started_at: seen.started_at.map(Time),
                finished_at: seen.finished_at.map(Time),
            });
        }
        State::Unknown if was_running => {
            state.terminated = Some(ContainerStateTerminated {
                message: Some("The container could not be located when the pod was terminated".into()),
                ..lost()
            });
        }
        State::Created | State::Unknown => state.waiting = Some(ContainerStateWaiting::default()),
    }
    state
}

/// A container that should start again and cannot yet is waiting; its end becomes the last state.
fn apply_waiting(inputs: &Inputs<'_>, kind: Kind, container: &Container, status: &mut ContainerStatus) {
    let Some((reason, message)) = inputs.waiting.get(&container.name) else { return };
    if inputs.terminal || !should_restart(container, kind, inputs.pod, inputs.seen) {
        return;
    }
    if status.state.as_ref().is_some_and(|state| state.terminated.is_some()) {
        status.last_state = status.state.take();
    }
    let message = Some(message.clone()).filter(|message| !message.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason.clone()), message };
    status.state = Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() });
}

/// Started and ready, as upstream's prober manager fills them in.
fn apply_probes(inputs: &Inputs<'_>, kind: Kind, container: &Container, status: &mut ContainerStatus) {
    if kind == Kind::Ephemeral {
        return;
    }
    let id = status.container_id.as_deref().and_then(|id| id.split_once("://")).map_or("", |(_, id)| id);
    let state = status.state.clone().unwrap_or_default();
    let settled = |probe, has_probe: bool| match inputs.probes.get(id, probe) {
        Some(result) => result,
        None => !has_probe,
    };
    let running = state.running.is_some();
    let started = running && settled(ProbeKind::Startup, container.startup_probe.is_some());
    status.started = Some(started);
    status.ready = if kind == Kind::Init && !pod::is_sidecar(container) {
        state.terminated.is_some_and(|ended| ended.exit_code == 0)
    } else {
        started && settled(ProbeKind::Readiness, container.readiness_probe.is_some())
    };
}

/// `recursive`: paths that are read-only with all below them.
fn volume_mounts(container: &Container, recursive: &[String]) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let mode = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let whole =
            recursive.iter().any(|path| path.trim_start_matches('/') == mount.mount_path.trim_start_matches('/'));
        if whole { "Enabled".to_string() } else { "Disabled".to_string() }
    };
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| mode(mount)),
        volume_status: None,
    };
    Some(mounts.iter().map(status).collect())
}
