//! The phase of a pod from its containers' statuses: upstream's getPhase.
//!
//! Must not know: the runtime.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, PodSpec};

use super::super::pod::{self, Kind};
use super::super::restart::restarts_after;

#[derive(Default)]
struct Count {
    pending_init: usize,
    pending_sidecars: usize,
    failed_for_good: usize,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// `terminal`: nothing of the pod starts again, whatever its policy. `initialized`: a regular container has started.
pub fn phase(spec: &PodSpec, statuses: &[ContainerStatus], terminal: bool, initialized: bool) -> &'static str {
    let mut count = Count::default();
    for container in pod::init_containers(spec) {
        let state = find(statuses, container);
        if pod::is_sidecar(container) { count.sidecar(state) } else { count.init(container, spec, state) }
    }
    for container in &spec.containers {
        count.regular(container, spec, find(statuses, container));
    }
    count.phase(terminal, initialized)
}

fn find<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == container.name)
}

fn last_exit(status: &ContainerStatus) -> Option<i32> {
    status.last_state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code)
}

impl Count {
    fn init(&mut self, container: &Container, spec: &PodSpec, status: Option<&ContainerStatus>) {
        let Some(status) = status else { return self.pending_init += 1 };
        let exit = match &status.state {
            Some(ContainerState { terminated: Some(ended), .. }) => Some(ended.exit_code),
            Some(ContainerState { waiting: Some(_), .. }) => last_exit(status),
            _ => None,
        };
        match exit {
            None => self.pending_init += 1,
            Some(0) => {}
            Some(code) if restarts_after(container, Kind::Init, spec, code) => {}
            Some(_) => self.failed_for_good += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        let Some(status) = status else { return self.unknown += 1 };
        match &status.state {
            Some(ContainerState { running: Some(_), .. }) => {
                self.pending_sidecars += usize::from(status.started != Some(true));
                self.running += 1;
            }
            Some(ContainerState { terminated: Some(_), .. }) => {}
            Some(ContainerState { waiting: Some(_), .. }) if last_exit(status).is_some() => {}
            Some(ContainerState { waiting: Some(_), .. }) => {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
            _ => {
                self.pending_sidecars += 1;
                self.unknown += 1;
            }
        }
    }

    fn regular(&mut self, container: &Container, spec: &PodSpec, status: Option<&ContainerStatus>) {
        let Some(status) = status else { return self.unknown += 1 };
        let for_good = |code| usize::from(!restarts_after(container, Kind::Regular, spec, code));
        match &status.state {
            Some(ContainerState { running: Some(_), .. }) => self.running += 1,
            Some(ContainerState { terminated: Some(ended), .. }) => {
                self.stopped += 1;
                self.stopped_for_good += for_good(ended.exit_code);
                self.succeeded += usize::from(ended.exit_code == 0);
            }
            Some(ContainerState { waiting: Some(_), .. }) => match last_exit(status) {
                Some(code) => {
                    self.stopped += 1;
                    self.stopped_for_good += for_good(code);
                }
                None => self.waiting += 1,
            },
            _ => self.unknown += 1,
        }
    }

    fn phase(&self, terminal: bool, initialized: bool) -> &'static str {
        let pending = self.pending_init > 0 || (self.pending_sidecars > 0 && !initialized) || self.waiting > 0;
        let over = self.running == 0 && self.stopped > 0 && self.unknown == 0;
        if self.failed_for_good > 0 {
            "Failed"
        } else if pending {
            "Pending"
        } else if self.running > 0 && self.unknown == 0 {
            "Running"
        } else if over && (terminal || self.stopped == self.stopped_for_good) {
            if self.stopped == self.succeeded { "Succeeded" } else { "Failed" }
        } else if over {
            "Running"
        } else {
            "Pending"
        }
    }
}
