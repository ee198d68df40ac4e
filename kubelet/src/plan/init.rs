//! The rules of init containers and sidecars: upstream's computeInitContainerActions.
//!
//! Must not know: regular containers' own rules.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::actions::{Kill, KillReason, Plan, Snapshot, failed_for_good, fault, kill_unknown, resized, start};
use super::pod::{self, Kind};
use super::probing::ProbeKind;
use super::seen::{self, State};

/// What one init container's state means for the rest.
enum Step {
    /// Look at the one before it.
    Continue,
    /// This one is through: the next one's turn, or all are done.
    Through,
    /// The pod is over.
    Failed,
}

/// Adds init containers' actions to `plan`; true once all are through.
pub fn plan(snapshot: &Snapshot<'_>, spec: &PodSpec, plan: &mut Plan) -> bool {
    let containers = pod::init_containers(spec);
    if containers.is_empty() {
        return true;
    }
    let mut initialized = spec.containers.iter().any(|container| in_current_sandbox(snapshot, container).is_some());
    // everything before the one that is looked at has been through
    let mut previously = initialized;
    let mut wanted: Vec<usize> = Vec::new();
    // last first: completed ones may have been removed from the runtime, so the last one seen counts
    for (index, container) in containers.iter().enumerate().rev() {
        let sidecar = pod::is_sidecar(container);
        let Some(latest) = in_current_sandbox(snapshot, container) else {
            if previously && sidecar {
                wanted.push(index);
            }
            continue;
        };
        if !previously || sidecar {
            match step(snapshot, spec, container, latest, index, &mut wanted, plan) {
                Step::Through if index + 1 == containers.len() => initialized = true,
                Step::Through if !previously => wanted.push(index + 1),
                Step::Through | Step::Continue => {}
                Step::Failed => {
                    plan.end_pod = true;
                    return false;
                }
            }
        }
        previously = true;
    }
    if !previously {
        wanted.push(0);
    }
    wanted.sort_unstable();
    wanted.dedup();
    plan.start
        .extend(wanted.iter().filter_map(|&index| containers.get(index)).map(|one| start(snapshot, Kind::Init, one)));
    initialized
}

/// The newest container of that name, if it belongs to the current sandbox: one of an earlier sandbox says nothing
/// about this one.
fn in_current_sandbox<'a>(snapshot: &Snapshot<'a>, container: &Container) -> Option<&'a seen::Container> {
    let latest = snapshot.seen.latest(&container.name)?;
    let current = snapshot.seen.sandboxes.first()?;
    (current.id == latest.sandbox_id).then_some(latest)
}

fn step(
    snapshot: &Snapshot<'_>,
    spec: &PodSpec,
    container: &Container,
    latest: &seen::Container,
    index: usize,
    wanted: &mut Vec<usize>,
    plan: &mut Plan,
) -> Step {
    let sidecar = pod::is_sidecar(container);
    match latest.state {
        State::Created => wanted.push(index),
        State::Unknown => {
            plan.kill.push(kill_unknown(latest));
            wanted.push(index);
        }
        State::Running if sidecar => return running_sidecar(snapshot, container, latest, index, wanted, plan),
        // validation lets none of them be resized that would have to start again
        State::Running => drop(resized(snapshot, container, latest, plan)),
        State::Exited if sidecar => wanted.push(index),
        State::Exited if latest.exit_code == 0 => return Step::Through,
        State::Exited if failed_for_good(container, spec, latest) => return Step::Failed,
        State::Exited => wanted.push(index),
    }
    Step::Continue
}

/// A running sidecar is through once started (its startup probe, if any, succeeded); faults restart it.
fn running_sidecar(
    snapshot: &Snapshot<'_>,
    container: &Container,
    latest: &seen::Container,
    index: usize,
    wanted: &mut Vec<usize>,
    plan: &mut Plan,
) -> Step {
    if let Some((reason, what)) = fault(snapshot, container, latest) {
        let message = format!("Init container {} {what}", container.name);
        plan.kill.push(Kill { id: latest.id.clone(), name: latest.name.clone(), reason, message });
        wanted.push(index);
        if reason == KillReason::StartupProbe {
            return Step::Continue;
        }
    } else if resized(snapshot, container, latest, plan) {
        wanted.push(index);
    }
    let started =
        container.startup_probe.is_none() || snapshot.probes.get(&latest.id, ProbeKind::Startup) == Some(true);
    if started { Step::Through } else { Step::Continue }
}
