//! Probes: a task per probe of each running container. Results are kept by container id and wake the pod's worker.
//!
//! Must not know: what a result leads to.

mod check;
pub mod grpc;
pub mod http;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Probe};
use parking_lot::Mutex;
use pintle_client::events::Recorder;
use pintle_cri::Runtime;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::apply::container_reference;
use crate::measure::Measures;
use crate::plan::pod::{self, Kind};
use crate::plan::probing::{ProbeKind, Results};
use crate::plan::seen::{self, Seen};

pub use check::Outcome;

/// The probes of one pod. Dropping it ends them.
pub struct Probes {
    runtime: Runtime,
    recorder: Recorder,
    measures: Measures,
    wake: Arc<Notify>,
    results: Arc<Mutex<Results>>,
    tasks: HashMap<(String, ProbeKind), DropGuard>,
    /// The pod ends: that it is not ready any more is no event.
    ending: Arc<AtomicBool>,
}

/// One probe of one container instance.
struct Task {
    kind: ProbeKind,
    probe: Probe,
    container: Container,
    container_id: String,
    pod_ip: String,
    pod: (String, String),
    regarding: ObjectReference,
    started_at: Option<Timestamp>,
    ending: Arc<AtomicBool>,
}

impl Probes {
    pub fn new(runtime: Runtime, recorder: Recorder, measures: Measures, wake: Arc<Notify>) -> Self {
        Self {
            runtime,
            recorder,
            measures,
            wake,
            results: Arc::default(),
            tasks: HashMap::new(),
            ending: Arc::default(),
        }
    }

    /// The results now.
    pub fn results(&self) -> Results {
        self.results.lock().clone()
    }

    /// A kubelet that starts again takes over what the API says of containers that kept running, so that readiness
    /// does not move.
    pub fn adopt(&self, pod: &Pod, seen: &Seen) {
        let Some(status) = &pod.status else { return };
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let mut results = self.results.lock();
        for known in all {
            let id = known.container_id.as_deref().and_then(|id| id.split_once("://")).map_or("", |(_, id)| id);
            if !seen.running().any(|running| running.id == id) {
                continue;
            }
            if known.started == Some(true) {
                results.0.insert((id.into(), ProbeKind::Startup), true);
                results.0.insert((id.into(), ProbeKind::Readiness), known.ready);
            }
        }
    }

    /// Starts the probes that should run and ends the others. `ending`: only readiness goes on.
    pub fn reconcile(&mut self, pod: &Pod, seen: &Seen, pod_ip: &str, ending: bool) {
        self.ending.store(ending, Ordering::Relaxed);
        let running: Vec<&seen::Container> = seen.running().collect();
        self.tasks.retain(|(id, kind), _| {
            running.iter().any(|one| one.id == *id) && (!ending || *kind == ProbeKind::Readiness)
        });
        self.results.lock().0.retain(|(id, _), _| seen.by_id(id).is_some());
        let Some(spec) = pod.spec.as_ref().filter(|_| !ending) else { return };
        for one in running {
            let Some((kind, container)) = pod::find_container(spec, &one.name) else { continue };
            if seen.latest(&one.name).is_none_or(|latest| latest.id != one.id) || kind == Kind::Ephemeral {
                continue;
            }
            for probe_kind in ProbeKind::ALL {
                self.start(pod, kind, &container, one, probe_kind, pod_ip);
            }
        }
    }

    fn start(
        &mut self,
        pod: &Pod,
        kind: Kind,
        container: &Container,
        running: &seen::Container,
        probe_kind: ProbeKind,
        pod_ip: &str,
    ) {
        let Some(probe) = of(container, probe_kind) else { return };
        let key = (running.id.clone(), probe_kind);
        if self.tasks.contains_key(&key) || !self.due(container, &running.id, probe_kind) {
            return;
        }
        let task = Task {
            kind: probe_kind,
            probe: probe.clone(),
            container: container.clone(),
            container_id: running.id.clone(),
            pod_ip: pod_ip.into(),
            pod: (pod::namespace(pod).into(), pod::name(pod).into()),
            regarding: container_reference(pod, kind, &container.name),
            started_at: running.started_at,
            ending: self.ending.clone(),
        };
        let stop = CancellationToken::new();
        let run = task.run(
            self.runtime.clone(),
            self.recorder.clone(),
            self.measures.clone(),
            self.results.clone(),
            self.wake.clone(),
        );
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(run).await });
        self.tasks.insert(key, stop.drop_guard());
    }

    /// Startup comes first and once; the others wait for it.
    fn due(&self, container: &Container, id: &str, kind: ProbeKind) -> bool {
        let startup = self.results.lock().get(id, ProbeKind::Startup);
        match kind {
            ProbeKind::Startup => startup.is_none(),
            _ => container.startup_probe.is_none() || startup == Some(true),
        }
    }
}

fn of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

fn seconds(value: Option<i32>, default: u64) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
}

impl Task {
    async fn run(
        self,
        runtime: Runtime,
        recorder: Recorder,
        measures: Measures,
        results: Arc<Mutex<Results>>,
        wake: Arc<Notify>,
    ) {
        tokio::time::sleep(self.delay()).await;
        let period = Duration::from_secs(seconds(self.probe.period_seconds, 10));
        let mut last = None;
        let mut run = 0;
        loop {
            let outcome = check::check(&runtime, &self.probe, &self.container, &self.container_id, &self.pod_ip).await;
            measures.probe(self.kind.label(), &self.container.name, &self.pod, outcome.label());
            if let Some(good) = self.judge(&recorder, outcome) {
                run = if last == Some(good) { run + 1 } else { 1 };
                last = Some(good);
                if run >= self.threshold(good) && self.settle(good, &results, &wake) {
                    return;
                }
            }
            tokio::time::sleep(period).await;
        }
    }

    /// What is left of the initial delay, counted from the container's start.
    fn delay(&self) -> Duration {
        let initial = Duration::from_secs(
            self.probe.initial_delay_seconds.and_then(|value| u64::try_from(value).ok()).unwrap_or(0),
        );
        let since = self.started_at.and_then(|at| Duration::try_from(Timestamp::now().duration_since(at)).ok());
        initial.saturating_sub(since.unwrap_or(Duration::ZERO))
    }

    fn threshold(&self, good: bool) -> u64 {
        if good { seconds(self.probe.success_threshold, 1) } else { seconds(self.probe.failure_threshold, 3) }
    }

    /// Good or bad; unknown outcomes count as neither.
    fn judge(&self, recorder: &Recorder, outcome: Outcome) -> Option<bool> {
        let label = self.kind.label();
        match outcome {
            Outcome::Failure(_) if self.ending.load(Ordering::Relaxed) => Some(false),
            Outcome::Unknown(_) if self.ending.load(Ordering::Relaxed) => None,
            Outcome::Success => Some(true),
            Outcome::Failure(output) => {
                recorder.warning(&self.regarding, "Unhealthy", format!("{label} probe failed: {output}"));
                Some(false)
            }
            Outcome::Unknown(error) => {
                recorder.warning(
                    &self.regarding,
                    "Unhealthy",
                    format!("{label} probe errored and resulted in unknown state: {error}"),
                );
                None
            }
        }
    }

    /// Keeps the result; true when this probe is over: startup is answered, or the container will be killed.
    fn settle(&self, good: bool, results: &Mutex<Results>, wake: &Notify) -> bool {
        let old = results.lock().0.insert((self.container_id.clone(), self.kind), good);
        if old != Some(good) {
            wake.notify_one();
        }
        self.kind == ProbeKind::Startup || self.kind == ProbeKind::Liveness && !good
    }
}
