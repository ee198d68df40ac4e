//! Resizing a pod in place: allocating what the API asks for, then giving it to the cgroups.
//!
//! Must not know: which container restarts for it (the plan says so).

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::Worker;
use crate::apply::pod_reference;
use crate::plan::actions::Plan;
use crate::plan::pod as spec_of;
use crate::plan::resize::{self, Condition, Resizing, Size, Sizes};
use crate::plan::resources::PodLimits;
use crate::plan::seen::Seen;

/// What a worker knows of its pod's sizes.
#[derive(Default)]
pub(super) struct State {
    /// None before the first look.
    allocated: Option<Sizes>,
    /// What the containers, and the pod's cgroup, were given.
    pub(super) given: Sizes,
    pub(super) shown: Resizing,
}

impl State {
    /// A container starts with what is allocated to it.
    pub(super) fn started(&mut self, pod: &Pod, name: &str) {
        let found = pod.spec.as_ref().and_then(|spec| spec_of::find_container(spec, name));
        if let Some((_, container)) = found {
            self.given.containers.insert(name.to_owned(), Size::of(container.resources.as_ref()));
        }
    }

    /// Whether to look again soon: what did not work is tried again.
    pub(super) fn failed(&self) -> bool {
        self.shown.in_progress.as_ref().is_some_and(|one| one.reason.is_some())
    }
}

fn condition(reason: Option<&str>, message: Option<String>, generation: Option<i64>) -> Condition {
    let since = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
    Condition { reason: reason.map(str::to_owned), message, generation, since }
}

impl Worker {
    /// The pod with what is allocated to it. What the API asks for beyond that is allocated now, if the node has room
    /// and the pod is not `over`.
    pub(super) fn allocate(&mut self, asked: &Arc<Pod>, over: bool) -> Arc<Pod> {
        let allocated = self.sizes.allocated.get_or_insert_with(|| Sizes::given_before(asked));
        let pod = allocated.applied(asked);
        if Arc::ptr_eq(&pod, asked) || over {
            self.sizes.shown.pending = None;
            return pod;
        }
        let generation = asked.metadata.generation;
        match self.start.neighbours.make_room(asked, &self.start.shown) {
            Ok(()) => {
                self.sizes.allocated = Some(Sizes::asked(asked));
                if self.sizes.shown.pending.take().is_some() {
                    self.start.measures.resize_accepted_late();
                }
                self.sizes.shown.in_progress = Some(condition(None, None, generation));
                let text = resize::told("Pod resize started", asked, generation, "");
                self.start.drivers.recorder.normal(&pod_reference(asked), "ResizeStarted", text);
                asked.clone()
            }
            Err(refusal) => {
                self.defer(asked, refusal.message);
                pod
            }
        }
    }

    fn defer(&mut self, asked: &Pod, message: String) {
        const REASON: &str = "Deferred";
        let generation = asked.metadata.generation;
        let known = self.sizes.shown.pending.as_ref();
        let since = known.map(|known| known.since);
        if known.is_none_or(|known| known.generation != generation) {
            let text = resize::told(&format!("Pod resize {REASON}"), asked, generation, &message);
            self.start.drivers.recorder.warning(&pod_reference(asked), "ResizeDeferred", text);
        }
        let mut pending = condition(Some(REASON), Some(message), generation);
        pending.since = since.unwrap_or(pending.since);
        self.sizes.shown.pending = Some(pending);
    }

    /// What an earlier kubelet gave to what still runs.
    pub(super) fn adopt_sizes(&mut self, asked: &Pod) {
        self.sizes.given = Sizes::given_before(asked);
    }

    /// Notes whether what runs has what it was allocated.
    pub(super) fn note_progress(&mut self, pod: &Pod, seen: &Seen) {
        if resize::in_progress(pod, seen, &self.sizes.given) {
            let generation = pod.metadata.generation;
            self.sizes.shown.in_progress.get_or_insert_with(|| condition(None, None, generation));
        } else if let Some(done) = self.sizes.shown.in_progress.take() {
            let text = resize::told("Pod resize completed", pod, done.generation, "");
            self.start.drivers.recorder.normal(&pod_reference(pod), "ResizeCompleted", text);
        }
    }

    /// Makes the pod's cgroup with its sandbox; later, brings it and the containers that stay to what is allocated.
    /// True when something changed.
    pub(super) async fn fit(&mut self, pod: &Pod, plan: &Plan, seen: &Seen) -> bool {
        let wanted = self.start.drivers.cgroups.limits(pod);
        let Some(had) = self.cgroup_limits.clone().filter(|_| plan.create_sandbox.is_none()) else {
            if let Err(error) = self.set_cgroup(pod, &wanted) {
                tracing::warn!(pod = spec_of::display(pod), "the pod's cgroup has no limits of its own: {error}");
            }
            // a host that refuses cgroups is asked once for each sandbox
            self.cgroup_limits = Some(wanted);
            self.sizes.given.pod = pod_size(pod);
            return false;
        };
        if had == wanted && plan.resize.is_empty() {
            self.sizes.given.pod = pod_size(pod);
            return false;
        }
        let began = Instant::now();
        let result = self.resize(pod, plan, seen, &had, wanted).await;
        self.start.measures.resized(result.is_ok(), began.elapsed());
        match result {
            Ok(()) => self.start.neighbours.freed(),
            Err(error) => self.note_failure(pod, error),
        }
        true
    }

    fn note_failure(&mut self, pod: &Pod, error: String) {
        let shown = &mut self.sizes.shown.in_progress;
        let generation = shown.as_ref().map_or(pod.metadata.generation, |one| one.generation);
        let known = shown.as_ref().is_some_and(|one| one.message.as_ref() == Some(&error));
        if !known {
            let text = resize::told("Pod resize error", pod, generation, &error);
            self.start.drivers.recorder.warning(&pod_reference(pod), "ResizeError", text);
            *shown = Some(condition(Some("Error"), Some(error), generation));
        }
    }

    /// While containers change one after the other, the pod's cgroup has room for both what was and what will be.
    async fn resize(
        &mut self,
        pod: &Pod,
        plan: &Plan,
        seen: &Seen,
        had: &PodLimits,
        wanted: PodLimits,
    ) -> Result<(), String> {
        let drivers = self.start.drivers.clone();
        let changed: Vec<Container> = plan.resize.iter().filter_map(|name| find(pod, name)).collect();
        let cuts = changed.iter().filter_map(|one| {
            let limit = resize::memory_cut(one, self.sizes.given.containers.get(&one.name))?;
            Some((one.name.clone(), limit))
        });
        let whole = wanted.memory.filter(|wanted| had.memory.is_none_or(|had| *wanted < had));
        drivers.memory_can_shrink(seen, &cuts.collect(), whole).await?;
        drivers.tell_sandbox(seen, &wanted).await?;
        self.set_cgroup(pod, &had.wider(&wanted))?;
        for container in &changed {
            let running = seen.running().find(|one| one.name == container.name);
            if let Some(running) = running {
                drivers.update_container(pod, container, &running.id).await?;
                self.sizes.started(pod, &container.name);
            }
        }
        self.set_cgroup(pod, &wanted)?;
        self.cgroup_limits = Some(wanted);
        self.sizes.given.pod = pod_size(pod);
        Ok(())
    }

    fn set_cgroup(&self, pod: &Pod, limits: &PodLimits) -> Result<(), String> {
        self.start.drivers.cgroups.ensure(pod, limits).map_err(|error| format!("{error:#}"))
    }
}

/// What is asked for the pod as a whole.
fn pod_size(pod: &Pod) -> Size {
    Size::of(pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()))
}

fn find(pod: &Pod, name: &str) -> Option<Container> {
    spec_of::find_container(pod.spec.as_ref()?, name).map(|(_, container)| container)
}
