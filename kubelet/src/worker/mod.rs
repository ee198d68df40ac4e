//! The worker of one pod: look, decide, act, report, until the pod is gone. One task per pod, keyed by UID.
//!
//! Must not know: other pods, where pods come from.

mod ending;
mod resizing;
mod running;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use pintle_client::error::chain;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::apply::Drivers;
use crate::measure::Measures;
use crate::observe::events::Wakes;
use crate::observe::pod::Observer;
use crate::plan::admission::Refusal;
use crate::plan::pod as spec_of;
use crate::plan::resources::PodLimits;
use crate::plan::restart::BackOff;
use crate::plan::seen::Seen;
use crate::plan::status::{self, Inputs};
use crate::pods::Neighbours;
use crate::probes::Probes;
use crate::references::Facts;
use crate::report::{Report, Target};
use crate::volumes::{PodVolumes, Volumes};

/// What a source says of the pod.
#[derive(Clone)]
pub struct Update {
    pub pod: Arc<Pod>,
    /// The source no longer has it: end it, whatever its spec says.
    pub removed: bool,
    /// Which object's status to write; none: nobody reads it (an orphan, a mirror that does not exist yet).
    pub target: Option<Target>,
}

/// What a worker is made with.
pub struct Start {
    pub drivers: Drivers,
    pub measures: Measures,
    pub wakes: Wakes,
    pub updates: watch::Receiver<Update>,
    pub report: Report,
    /// The pod with its newest status, for the server.
    pub shown: watch::Sender<Arc<Pod>>,
    pub wake: Arc<Notify>,
    pub node: watch::Receiver<Facts>,
    pub neighbours: Neighbours,
    /// Why this node does not take the pod.
    pub refused: Option<Refusal>,
    pub cancel: CancellationToken,
}

/// What a round of the worker leads to.
enum Next {
    /// Look again after this long at the latest, or when something happens.
    Wait(Duration),
    /// The pod is gone.
    Done,
}

pub struct Worker {
    start: Start,
    uid: String,
    observer: Observer,
    probes: Probes,
    adopted: bool,
    /// Restart back-off by container.
    backoffs: BTreeMap<String, BackOff>,
    /// Why containers wait: reason and message by name.
    waiting: BTreeMap<String, (String, String)>,
    volumes: PodVolumes,
    sizes: resizing::State,
    /// Somebody on this node needs less than before.
    freed: watch::Receiver<()>,
    /// A sandbox on its way: the runtime makes it whether or not somebody waits, so the next look waits.
    sandbox: Option<JoinHandle<Result<String, String>>>,
    /// What the pod's cgroup was last given.
    cgroup_limits: Option<PodLimits>,
    /// Why the kubelet ended the pod: status reason and message.
    ended: Option<(String, String)>,
    /// The last status made here; the API's own may be older.
    last: Option<PodStatus>,
    /// What the pod held beside containers was released.
    released: bool,
    failures: u32,
}

impl Worker {
    pub fn new(start: Start) -> Self {
        let pod = start.updates.borrow().pod.clone();
        let uid = spec_of::uid(&pod).to_string();
        let root = start.drivers.config.root_dir.clone();
        let drivers = &start.drivers;
        let freed = start.neighbours.changes();
        let ended = start.refused.as_ref().map(|refusal| {
            drivers.recorder.warning(&crate::apply::pod_reference(&pod), &refusal.reason, refusal.message.clone());
            (refusal.reason.clone(), format!("Pod was rejected: {}", refusal.message))
        });
        Self {
            observer: Observer::new(drivers.runtime.clone(), root, &uid),
            probes: Probes::new(
                drivers.runtime.clone(),
                drivers.recorder.clone(),
                start.measures.clone(),
                start.wake.clone(),
            ),
            uid,
            start,
            adopted: false,
            backoffs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            volumes: PodVolumes::default(),
            sizes: resizing::State::default(),
            freed,
            sandbox: None,
            cgroup_limits: None,
            ended,
            last: None,
            released: false,
            failures: 0,
        }
    }

    /// Works until the pod is gone or the kubelet stops; then true only if the pod is gone.
    pub async fn run(mut self) -> bool {
        let cancel = self.start.cancel.clone();
        cancel.run_until_cancelled(self.work()).await.is_some()
    }

    async fn work(&mut self) {
        loop {
            let began = Instant::now();
            let next = self.round().await;
            self.start.measures.synced(began.elapsed().as_secs_f64());
            match next {
                Ok(Next::Done) => return,
                Ok(Next::Wait(delay)) => {
                    self.failures = 0;
                    self.wait(delay).await;
                }
                Err(error) => {
                    tracing::warn!(pod = self.uid, "{}", chain(error.as_ref()));
                    self.failures = self.failures.saturating_add(1);
                    self.wait(Duration::from_secs(1 << self.failures.min(5))).await;
                }
            }
        }
    }

    /// One look and what follows from it.
    async fn round(&mut self) -> anyhow::Result<Next> {
        let mut update = self.start.updates.borrow_and_update().clone();
        let seen = self.look().await?;
        if !self.adopted {
            self.probes.adopt(&update.pod, &seen);
            self.adopt_waits(&update.pod, &seen);
            self.adopt_sizes(&update.pod);
            self.adopted = true;
        }
        self.check_deadline(&update.pod);
        let over = update.removed
            || update.pod.metadata.deletion_timestamp.is_some()
            || self.ended.is_some()
            || self.last_phase(&update.pod).is_some_and(spec_of::is_terminal_phase);
        update.pod = self.allocate(&update.pod, over);
        if over {
            return self.end(update, seen).await;
        }
        let mut updates = self.start.updates.clone();
        updates.mark_unchanged();
        tokio::select! {
            next = self.keep_running(&update, seen) => next,
            // an end does not wait for an image to arrive
            () = ends(&mut updates) => Ok(Next::Wait(Duration::ZERO)),
        }
    }

    /// What containers waited for when an earlier kubelet stopped goes on, their back-off included.
    fn adopt_waits(&mut self, pod: &Pod, seen: &Seen) {
        let Some(status) = &pod.status else { return };
        for known in status.container_statuses.iter().chain(&status.init_container_statuses).flatten() {
            let waiting = known.state.as_ref().and_then(|state| state.waiting.clone()).unwrap_or_default();
            let reason = waiting.reason.unwrap_or_default();
            if matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing") {
                continue;
            }
            let finished = seen.latest(&known.name).and_then(|latest| latest.finished_at);
            if let Some(finished) = finished.filter(|_| reason == "CrashLoopBackOff") {
                let max = self.start.drivers.config.max_container_backoff;
                self.backoffs.insert(known.name.clone(), BackOff::after(known.restart_count, finished, max));
            }
            self.waiting.insert(known.name.clone(), (reason, waiting.message.unwrap_or_default()));
        }
    }

    async fn look(&mut self) -> anyhow::Result<Seen> {
        // a failure is told by its event, and shows as no sandbox
        let _ = self.made_sandbox().await;
        let seen = self.observer.look().await?;
        let sandboxes = seen.sandboxes.iter().map(|sandbox| sandbox.id.as_str());
        self.start.wakes.follow(sandboxes, &self.start.wake);
        Ok(seen)
    }

    /// Waits for the sandbox on its way, if there is one. Nothing is forgotten when the wait is given up.
    async fn made_sandbox(&mut self) -> Result<(), String> {
        let Some(making) = self.sandbox.as_mut() else { return Ok(()) };
        let made = making.await;
        self.sandbox = None;
        made.unwrap_or_else(|error| Err(error.to_string())).map(drop)
    }

    async fn wait(&mut self, delay: Duration) {
        if delay.is_zero() {
            // a timer's shortest sleep is a millisecond; others still get their turn
            return tokio::task::yield_now().await;
        }
        let resync = self.start.drivers.config.sync_frequency;
        let refresh = self.volumes.refresh.unwrap_or(resync);
        tokio::select! {
            () = tokio::time::sleep(delay.min(refresh).min(resync)) => {}
            () = self.start.wake.notified() => {}
            _ = self.start.updates.changed() => {}
            () = Volumes::changed(&self.volumes) => {}
            _ = self.freed.changed(), if self.sizes.shown.pending.is_some() => {}
        }
    }

    fn last_phase<'a>(&'a self, pod: &'a Pod) -> Option<&'a str> {
        let status = self.last.as_ref().or(pod.status.as_ref())?;
        status.phase.as_deref()
    }

    /// `activeDeadlineSeconds`, counted from the pod's start on this node.
    fn check_deadline(&mut self, pod: &Pod) {
        if self.ended.is_none() && self.until_deadline(pod) == Some(Duration::ZERO) {
            let reason = (
                "DeadlineExceeded".to_string(),
                "Pod was active on the node longer than the specified deadline".to_string(),
            );
            let regarding = crate::apply::pod_reference(pod);
            self.start.drivers.recorder.normal(&regarding, &reason.0, reason.1.clone());
            self.ended = Some(reason);
        }
    }

    fn until_deadline(&self, pod: &Pod) -> Option<Duration> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let status = self.last.as_ref().or(pod.status.as_ref())?;
        let active = Duration::try_from(Timestamp::now().duration_since(status.start_time.as_ref()?.0))
            .unwrap_or(Duration::ZERO);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(active))
    }

    fn facts(&self, pod: &Pod, seen: &Seen) -> Facts {
        let node = self.start.node.borrow().clone();
        let sandbox = seen.ready_sandbox();
        let pod_ips = match sandbox {
            _ if spec_of::host_network(pod) => node.host_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        Facts { pod_ips, ..node }
    }

    /// Makes the status of what was seen, shows it to the server, and hands it to the API's side.
    fn report(&mut self, update: &Update, seen: &Seen, terminal: bool) -> PodStatus {
        let mut pod = update.pod.as_ref().clone();
        if let Some(mut last) = self.last.clone() {
            keep_foreign_conditions(&mut last, update.pod.status.as_ref());
            pod.status = Some(last);
        }
        let node_ips = self.start.node.borrow().host_ips.clone();
        let status = status::status(&Inputs {
            pod: &pod,
            seen,
            probes: &self.probes.results(),
            waiting: &self.waiting,
            given: &self.sizes.given.containers,
            resizing: &self.sizes.shown,
            node_ips: &node_ips,
            runtime: &self.start.drivers.runtime.version.runtime_name,
            terminal,
            ended: self.ended.as_ref(),
            now: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH),
        });
        pod.status = Some(status.clone());
        self.start.shown.send_replace(Arc::new(pod));
        if let Some(target) = &update.target {
            self.start.report.status(target.clone(), update.pod.status.clone().unwrap_or_default(), status.clone());
        }
        self.last = Some(status.clone());
        status
    }
}

/// The API's side has the newest word on conditions that others own.
fn keep_foreign_conditions(last: &mut PodStatus, api: Option<&PodStatus>) {
    let Some(api) = api.and_then(|api| api.conditions.clone()) else { return };
    let ours = |type_: &str| status::OWNED_CONDITIONS.contains(&type_);
    let conditions = last.conditions.get_or_insert_default();
    conditions.retain(|one| ours(&one.type_));
    conditions.extend(api.into_iter().filter(|one| !ours(&one.type_)));
}

/// Waits for an update that ends the pod.
async fn ends(updates: &mut watch::Receiver<Update>) {
    let ending = |update: &Update| update.removed || update.pod.metadata.deletion_timestamp.is_some();
    // an error means that the kubelet stops: the worker is cancelled elsewhere
    if updates.wait_for(ending).await.is_err() {
        std::future::pending::<()>().await;
    }
}
