//! The loop: what is watched goes into the table and the queue; while pods are active, one after the other is
//! decided, assumed on its node, and bound beside.
//!
//! Must not know: how a node is chosen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Namespace, Node as ApiNode, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use pintle_client::events::{EventType, Recorder};
use pintle_client::{Change, Reflector};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::apply::Nomination;
use crate::plan::node::{Node, Table};
use crate::plan::pod::PodInfo;
use crate::plan::preempt::{self, Budget, Outcome, Victims};
use crate::plan::{self, Decision, Unschedulable};
use crate::queue::{Attempt, Happening, Queue};
use crate::{Config, apply, metrics::SchedulerMetrics};

/// Bindings and status updates at once.
const WRITES: usize = 128;
/// Pods decided between two looks at what happened meanwhile.
const BATCH: usize = 64;

pub struct Sources {
    pub pods: Reflector<Pod>,
    pub nodes: Reflector<ApiNode>,
    pub namespaces: Reflector<Namespace>,
    pub budgets: Reflector<PodDisruptionBudget>,
}

/// A write that came back.
enum Written {
    Bound { pod: Arc<PodInfo>, attempt: Attempt, begun: Instant, result: Result<(), kube::Error> },
    Told { pod: Arc<PodInfo>, result: Result<(), kube::Error> },
    Preempted { victim: Arc<PodInfo>, by: Arc<PodInfo>, node: String, result: Result<(), kube::Error> },
}

pub struct Scheduler {
    config: Config,
    client: kube::Client,
    recorder: Recorder,
    metrics: SchedulerMetrics,
    table: Table,
    queue: Queue,
    /// Assumed on a node, until the watch shows them there: by UID.
    assumed: HashMap<String, Arc<PodInfo>>,
    /// Waiting for others to leave the node that they were promised (`pod.node`): by UID.
    nominated: HashMap<String, Arc<PodInfo>>,
    /// Whose budgets are looked at when somebody is to be preempted.
    budgets: Option<Reflector<PodDisruptionBudget>>,
    writes: JoinSet<Written>,
    turn: usize,
}

impl Scheduler {
    pub fn new(config: Config, client: kube::Client, recorder: Recorder, metrics: SchedulerMetrics) -> Self {
        let queue = Queue::new(&config);
        Self {
            config,
            client,
            recorder,
            metrics,
            table: Table::default(),
            queue,
            assumed: HashMap::new(),
            nominated: HashMap::new(),
            budgets: None,
            writes: JoinSet::new(),
            turn: 0,
        }
    }

    /// Runs until `cancel`, or until the watches end.
    pub async fn run(mut self, sources: Sources, cancel: CancellationToken) {
        self.fill(&sources);
        self.budgets = Some(sources.budgets.clone());
        let (mut pods, mut nodes) = (sources.pods.subscribe(), sources.nodes.subscribe());
        let mut namespaces = sources.namespaces.subscribe();
        loop {
            self.queue.flush(Instant::now());
            self.decide_some();
            self.metrics.waiting(self.queue.lengths(), self.table.nodes().len());
            let flush = self.queue.next_flush().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(written) = self.writes.join_next(), if !self.writes.is_empty() => self.written(written),
                Some(changes) = nodes.next() => changes.iter().for_each(|change| self.node(change)),
                Some(changes) = pods.next() => changes.iter().for_each(|change| self.pod(change)),
                Some(changes) = namespaces.next() => changes.iter().for_each(|change| self.namespace(change)),
                () = tokio::task::yield_now(), if self.may_decide() => {}
                () = sleep_until(flush) => {}
                else => return,
            }
        }
    }

    /// Nothing is decided before everything that is there is known.
    fn fill(&mut self, sources: &Sources) {
        for node in sources.nodes.list() {
            self.node(&Change::Added(node));
        }
        for namespace in sources.namespaces.list() {
            self.namespace(&Change::Added(namespace));
        }
        for pod in sources.pods.list() {
            self.pod(&Change::Added(pod));
        }
    }

    fn node(&mut self, change: &Change<ApiNode>) {
        let name = change.object().metadata.name.clone().unwrap_or_default();
        match change {
            Change::Deleted(_) => self.table.remove_node(&name),
            Change::Added(node) | Change::Modified { new: node, .. } => {
                let node = Node::of(node);
                let same = self.table.node(&name).is_some_and(|old| old.offers_the_same(&node));
                self.table.put_node(node);
                if !same {
                    self.queue.happened(Happening::Node, Instant::now());
                }
            }
        }
    }

    fn namespace(&mut self, change: &Change<Namespace>) {
        let meta = &change.object().metadata;
        let (name, labels) = (meta.name.clone().unwrap_or_default(), meta.labels.clone().unwrap_or_default());
        match change {
            Change::Deleted(_) => drop(self.table.namespaces.remove(&name)),
            _ if self.table.namespaces.get(&name) == Some(&labels) => {}
            _ => {
                self.table.namespaces.insert(name, labels);
                self.queue.happened(Happening::Namespace, Instant::now());
            }
        }
    }

    fn pod(&mut self, change: &Change<Pod>) {
        let pod = PodInfo::of(change.object());
        let deleted = matches!(change, Change::Deleted(_));
        if deleted || pod.finished {
            self.gone(&pod.uid);
        } else if pod.node.is_some() {
            self.on_node(pod);
        } else if !self.assumed.contains_key(&pod.uid) {
            self.waiting(pod);
        }
    }

    fn gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.nominated.remove(uid);
        if self.table.remove_pod(uid) {
            self.queue.happened(Happening::PodGone, Instant::now());
        }
    }

    fn on_node(&mut self, pod: PodInfo) {
        self.queue.remove(&pod.uid);
        self.assumed.remove(&pod.uid);
        self.nominated.remove(&pod.uid);
        let known = self.table.pod(&pod.uid).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.asks_the_same(&pod) && known.node == pod.node) {
            if known.started != pod.started {
                self.table.put_pod(Arc::new(pod));
            }
            return;
        }
        self.table.put_pod(Arc::new(pod));
        let happening = if known.is_some() { Happening::PodGone } else { Happening::PodAssigned };
        self.queue.happened(happening, Instant::now());
    }

    fn waiting(&mut self, pod: PodInfo) {
        let ours = pod.scheduler == self.config.scheduler_name && !pod.terminating && !pod.gated;
        if ours {
            self.nominate(&pod, pod.nominated.clone());
            self.queue.put(Arc::new(pod), Instant::now());
        } else {
            self.queue.remove(&pod.uid);
        }
    }

    /// Keeps a place on the node for the pod, or no longer.
    fn nominate(&mut self, pod: &PodInfo, node: Option<String>) {
        match node {
            Some(node) => {
                let there = Arc::new(PodInfo { node: Some(node), ..pod.clone() });
                self.nominated.insert(pod.uid.clone(), there);
            }
            None => drop(self.nominated.remove(&pod.uid)),
        }
    }

    fn may_decide(&self) -> bool {
        self.queue.lengths().active > 0 && self.writes.len() < WRITES
    }

    fn decide_some(&mut self) {
        for _ in 0..BATCH {
            if self.writes.len() >= WRITES {
                return;
            }
            let Some(attempt) = self.queue.pop() else { return };
            self.decide(attempt);
        }
    }

    fn decide(&mut self, attempt: Attempt) {
        let begun = Instant::now();
        self.turn = self.turn.wrapping_add(1);
        let promised = self.put_promised(&attempt.pod);
        let decision = plan::schedule(&attempt.pod, &self.table, self.turn);
        let preemption = match &decision {
            Decision::Unschedulable(why) => Some(self.preemption(&attempt.pod, why)),
            Decision::Node(_) => None,
        };
        for uid in &promised {
            self.table.remove_pod(uid);
        }
        self.metrics.decided(begun.elapsed());
        match decision {
            Decision::Node(node) => self.assume_and_bind(attempt, node, begun),
            Decision::Unschedulable(why) => {
                self.metrics.attempted("unschedulable", begun.elapsed());
                self.unschedulable(&attempt.pod, &why, preemption);
            }
        }
    }

    /// Puts those on their nodes to whom the pod may not be preferred. Their UIDs, to be taken away again.
    fn put_promised(&mut self, pod: &PodInfo) -> Vec<String> {
        let before = |other: &&Arc<PodInfo>| other.uid != pod.uid && other.priority >= pod.priority;
        let promised: Vec<Arc<PodInfo>> = self.nominated.values().filter(before).cloned().collect();
        let waiting = promised.into_iter().filter(|other| self.table.pod(&other.uid).is_none());
        let waiting: Vec<Arc<PodInfo>> = waiting.collect();
        waiting
            .into_iter()
            .map(|other| {
                self.table.put_pod(other.clone());
                other.uid.clone()
            })
            .collect()
    }

    fn preemption(&mut self, pod: &PodInfo, why: &Unschedulable) -> Outcome {
        let budgets = self.budgets.iter().flat_map(|budgets| budgets.list());
        let budgets: Vec<Budget> = match pod.preempts && pod.priority > self.table.least_priority() {
            true => budgets.map(|budget| Budget::of(&budget)).collect(),
            false => Vec::new(),
        };
        preempt::plan(pod, &mut self.table, &budgets, why, self.turn)
    }

    fn assume_and_bind(&mut self, attempt: Attempt, node: String, begun: Instant) {
        let pod = Arc::new(PodInfo { node: Some(node), ..(*attempt.pod).clone() });
        self.table.put_pod(pod.clone());
        self.nominated.remove(&pod.uid);
        self.assumed.insert(pod.uid.clone(), pod.clone());
        let client = self.client.clone();
        self.writes.spawn(async move {
            let result = apply::bind(client, &pod).await;
            Written::Bound { pod, attempt, begun, result }
        });
    }

    fn unschedulable(&mut self, pod: &Arc<PodInfo>, why: &Unschedulable, preemption: Option<Outcome>) {
        self.queue.unschedulable(&pod.uid, why.plugins(), Instant::now());
        let (message, nomination) = match preemption {
            Some(Outcome::Preempt(victims)) => {
                let to = victims.node.clone();
                self.nominate(pod, Some(to.clone()));
                self.preempt(pod, victims);
                (why.message(""), Nomination::To(to))
            }
            Some(Outcome::Nobody { why: reason, waits }) => {
                let clears = !waits && self.nominated.remove(&pod.uid).is_some();
                (why.message(&reason), if clears { Nomination::Clear } else { Nomination::Keep })
            }
            None => (why.message(""), Nomination::Keep),
        };
        self.report(pod, EventType::Warning, "FailedScheduling", "Scheduling", &message);
        if pod.told.as_ref() != Some(&message) || nomination != Nomination::Keep {
            self.tell(pod.clone(), "Unschedulable", message, nomination);
        }
    }

    /// Makes the victims go; who was promised their node and matters less is promised it no longer.
    fn preempt(&mut self, pod: &Arc<PodInfo>, victims: Victims) {
        let lesser = |other: &&Arc<PodInfo>| {
            other.node.as_ref() == Some(&victims.node) && other.priority < pod.priority && other.uid != pod.uid
        };
        for other in self.nominated.values().filter(lesser).cloned().collect::<Vec<_>>() {
            self.nominated.remove(&other.uid);
            let client = self.client.clone();
            self.writes.spawn(async move {
                let result = apply::clear_nomination(client, &other).await;
                Written::Told { pod: other, result }
            });
        }
        for victim in victims.pods {
            let (client, by, node) = (self.client.clone(), pod.clone(), victims.node.clone());
            let scheduler = self.config.scheduler_name.clone();
            self.writes.spawn(async move {
                let result = apply::preempt(client, &victim, &scheduler).await;
                Written::Preempted { victim, by, node, result }
            });
        }
    }

    fn tell(&mut self, pod: Arc<PodInfo>, reason: &'static str, message: String, nomination: Nomination) {
        let client = self.client.clone();
        self.writes.spawn(async move {
            let result = apply::not_scheduled(client, &pod, reason, &message, &nomination).await;
            Written::Told { pod, result }
        });
    }

    fn report(&self, pod: &PodInfo, type_: EventType, reason: &str, action: &str, message: &str) {
        self.recorder.report(&apply::reference(pod), None, type_, reason, action, message);
    }

    fn written(&mut self, written: Result<Written, tokio::task::JoinError>) {
        match written {
            Ok(Written::Bound { pod, attempt, begun, result: Ok(()) }) => self.bound(&pod, &attempt, begun),
            Ok(Written::Bound { pod, attempt, begun, result: Err(error) }) => {
                self.not_bound(&pod, &attempt, begun, &error);
            }
            // the pod may be gone; if it is not, its next try tells it again
            Ok(Written::Told { pod, result: Err(error) }) => {
                tracing::debug!(%error, pod = %pod.name, namespace = %pod.namespace, "the pod's condition was not set");
            }
            Ok(Written::Told { .. }) => {}
            Ok(Written::Preempted { victim, by, node, result }) => self.preempted(&victim, &by, &node, result),
            Err(error) => tracing::error!(%error, "a write ended abnormally"),
        }
    }

    fn bound(&mut self, pod: &PodInfo, attempt: &Attempt, begun: Instant) {
        self.metrics.attempted("scheduled", begun.elapsed());
        self.metrics.scheduled(attempt);
        self.queue.remove(&pod.uid);
        let node = pod.node.as_deref().unwrap_or_default();
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
        self.report(pod, EventType::Normal, "Scheduled", "Binding", &message);
        self.queue.happened(Happening::PodAssigned, Instant::now());
    }

    fn not_bound(&mut self, pod: &Arc<PodInfo>, attempt: &Attempt, begun: Instant, error: &kube::Error) {
        self.metrics.attempted("error", begun.elapsed());
        // seen on a node or gone meanwhile: the watch knows better than this answer
        if self.assumed.remove(&pod.uid).is_none() {
            return;
        }
        self.table.remove_pod(&pod.uid);
        self.queue.happened(Happening::PodGone, Instant::now());
        if matches!(error, kube::Error::Api(status) if status.code == 404) {
            return self.queue.remove(&pod.uid);
        }
        let message = format!("binding rejected: {error}");
        tracing::warn!(%error, pod = %pod.name, namespace = %pod.namespace, "binding failed");
        self.queue.back_off(&pod.uid, Instant::now());
        self.report(pod, EventType::Warning, "FailedScheduling", "Scheduling", &message);
        self.tell(attempt.pod.clone(), "SchedulerError", message, Nomination::Keep);
    }

    fn preempted(&mut self, victim: &PodInfo, by: &PodInfo, node: &str, result: Result<(), kube::Error>) {
        if let Err(error) = result {
            tracing::warn!(%error, pod = %victim.name, namespace = %victim.namespace, "a pod could not be preempted");
            // somebody has to go all the same: the pod looks again
            return self.queue.happened(Happening::PodGone, Instant::now());
        }
        let (about, related) = (apply::reference(victim), apply::reference(by));
        let message = format!("Preempted by pod {} on node {node}", by.uid);
        self.recorder.report(&about, Some(&related), EventType::Normal, "Preempted", "Preempting", &message);
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
