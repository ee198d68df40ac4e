//! The node's pods: sources merged by UID, a worker for each, mirrors for static ones, an end for orphans.
//!
//! Must not know: how a worker works.

mod adopt;
mod mirror;
mod neighbours;

pub use neighbours::Neighbours;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use pintle_client::{Change, Reflector};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::apply::Drivers;
use crate::measure::Measures;
use crate::observe::events::Wakes;
use crate::plan::admission::{self, Refusal};
use crate::plan::apparmor;
use crate::plan::pod;
use crate::plan::resources::burstable_shares;
use crate::references::Facts;
use crate::report::{Reports, Target};
use crate::sources::files::StaticPods;
use crate::worker::{Start, Update, Worker};

/// The pods with their newest statuses, for the server and the node's own accounts. Clones share it.
#[derive(Clone, Default)]
pub struct Shown(Arc<RwLock<BTreeMap<String, watch::Receiver<Arc<Pod>>>>>);

impl Shown {
    /// Every pod.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.0.read().values().map(|pod| pod.borrow().clone()).collect()
    }

    /// The pod of that name; while an old one ends, the newer one.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let mut found: Vec<_> = self.list();
        found.retain(|one| pod::namespace(one) == namespace && pod::name(one) == name);
        found.sort_by_key(|one| one.metadata.deletion_timestamp.is_some());
        found.into_iter().next()
    }
}

/// What pods are made with.
pub struct Setup {
    pub drivers: Drivers,
    pub measures: Measures,
    pub wakes: Wakes,
    pub reports: Reports,
    pub node: watch::Receiver<Facts>,
    pub neighbours: Neighbours,
    /// The kernel has AppArmor enabled.
    pub apparmor: bool,
    pub shown: Shown,
    pub cancel: CancellationToken,
}

/// A running worker.
struct Handle {
    updates: watch::Sender<Update>,
    full_name: String,
}

pub struct Pods {
    setup: Setup,
    workers: HashMap<String, Handle>,
    mirrors: mirror::Mirrors,
    statics: StaticPods,
    /// Static pods that wait for the one before them, of the same name, to end.
    queued: BTreeMap<String, Arc<Pod>>,
    ended: (mpsc::Sender<String>, mpsc::Receiver<String>),
    /// What the burstable pods' cgroup was last given.
    burstable: Option<i64>,
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod::namespace(pod), pod::name(pod))
}

fn target(pod: &Pod) -> Target {
    Target { namespace: pod::namespace(pod).into(), name: pod::name(pod).into(), uid: pod::uid(pod).into() }
}

impl Pods {
    pub fn new(setup: Setup) -> Self {
        let mirrors = mirror::Mirrors::new(setup.drivers.objects.client(), setup.drivers.config.node_name.clone());
        Self {
            setup,
            workers: HashMap::new(),
            mirrors,
            statics: StaticPods::new(),
            queued: BTreeMap::new(),
            ended: mpsc::channel(64),
            burstable: None,
        }
    }

    /// Follows the sources until cancelled. Workers stop with it; containers do not.
    pub async fn run(mut self, api: Reflector<Pod>, mut files: watch::Receiver<Option<StaticPods>>) {
        let mut changes = api.subscribe();
        let cancel = self.setup.cancel.clone();
        let mut synced = Box::pin(both_synced(api.clone(), files.clone()));
        let mut orphans_ended = false;
        let mut retry = tokio::time::interval(mirror::RETRY);
        let often = self.setup.drivers.config.sync_frequency;
        let mut sweep = tokio::time::interval_at(tokio::time::Instant::now() + often, often);
        self.take_files(&mut files);
        loop {
            self.weigh_burstable();
            tokio::select! {
                // in this order: what the first list brought has its workers before anything counts as an orphan
                biased;
                () = cancel.cancelled() => return,
                changes = changes.next() => match changes {
                    Some(changes) => changes.into_iter().for_each(|change| self.take_api(change)),
                    None => return,
                },
                Ok(()) = files.changed() => self.take_files(&mut files),
                Some(uid) = self.ended.1.recv() => self.forget(&uid),
                // a runtime of its own may finish what it was asked for by a kubelet that is gone
                _ = sweep.tick(), if orphans_ended => self.end_orphans().await,
                _ = retry.tick(), if orphans_ended => self.mirrors.reconcile(&self.statics),
                () = &mut synced, if !orphans_ended => {
                    orphans_ended = true;
                    self.end_orphans().await;
                    self.mirrors.reconcile(&self.statics);
                }
            }
        }
    }

    /// Burstable pods together weigh what they ask for.
    fn weigh_burstable(&mut self) {
        let pods = self.setup.shown.list();
        let shares = burstable_shares(pods.iter().map(AsRef::as_ref));
        if self.burstable.replace(shares) != Some(shares) {
            self.setup.drivers.cgroups.weigh_burstable(shares);
        }
    }

    fn take_api(&mut self, change: Change<Pod>) {
        let pod = change.object().clone();
        if pod::is_mirror(&pod) {
            return self.take_mirror(change);
        }
        match change {
            Change::Deleted(_) => self.remove(pod::uid(&pod)),
            Change::Added(_) | Change::Modified { .. } => {
                let target = Some(target(&pod));
                self.update(Update { pod, removed: false, target });
            }
        }
    }

    /// A mirror says where its static pod's status goes, and what it was.
    fn take_mirror(&mut self, change: Change<Pod>) {
        self.mirrors.note(&change);
        let name = full_name(change.object());
        let found = self.statics.values().find(|pod| full_name(pod) == name).cloned();
        if let Some(pod) = found {
            self.update_static(pod);
        }
        self.mirrors.reconcile(&self.statics);
    }

    fn take_files(&mut self, files: &mut watch::Receiver<Option<StaticPods>>) {
        let Some(statics) = files.borrow_and_update().clone() else { return };
        let gone: Vec<String> = self.statics.keys().filter(|uid| !statics.contains_key(*uid)).cloned().collect();
        self.statics = statics;
        gone.iter().for_each(|uid| self.remove(uid));
        for pod in self.statics.values().cloned().collect::<Vec<_>>() {
            self.update_static(pod);
        }
        self.mirrors.reconcile(&self.statics);
    }

    fn update_static(&mut self, pod: Arc<Pod>) {
        let name = full_name(&pod);
        // another pod of that name, or this one itself still ending after its file was away
        let busy = self.workers.iter().any(|(uid, handle)| {
            handle.full_name == name && (uid != pod::uid(&pod) || handle.updates.borrow().removed)
        });
        if busy {
            self.queued.insert(name, pod);
            return;
        }
        let (target, status) = self.mirrors.target(&pod);
        let mut pod = pod.as_ref().clone();
        pod.status = status;
        self.update(Update { pod: Arc::new(pod), removed: false, target });
    }

    fn update(&mut self, update: Update) {
        let uid = pod::uid(&update.pod).to_string();
        match self.workers.get(&uid) {
            Some(handle) => drop(handle.updates.send_replace(update)),
            None => self.start(uid, update),
        }
    }

    fn start(&mut self, uid: String, update: Update) {
        let setup = &self.setup;
        let refused = self.refused(&update.pod);
        let (shown, receiver) = watch::channel(update.pod.clone());
        setup.shown.0.write().insert(uid.clone(), receiver);
        let full_name = full_name(&update.pod);
        let (updates, receiver) = watch::channel(update);
        let worker = Worker::new(Start {
            drivers: setup.drivers.clone(),
            measures: setup.measures.clone(),
            wakes: setup.wakes.clone(),
            updates: receiver,
            report: setup.reports.pod(),
            shown,
            wake: Arc::new(Notify::new()),
            node: setup.node.clone(),
            neighbours: setup.neighbours.clone(),
            refused,
            cancel: setup.cancel.clone(),
        });
        let ended = self.ended.0.clone();
        let gone = uid.clone();
        tokio::spawn(async move {
            if worker.run().await {
                // nobody to tell means that the kubelet stops
                let _ = ended.send(gone).await;
            }
        });
        self.workers.insert(uid, Handle { updates, full_name });
        setup.measures.running_pods.set(i64::try_from(self.workers.len()).unwrap_or(i64::MAX));
    }

    /// Why this node does not take a pod. One that an earlier kubelet took is not asked about again.
    fn refused(&self, pod: &Pod) -> Option<Refusal> {
        let taken = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if taken || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let others = self.setup.shown.list();
        let others: Vec<&Pod> = others.iter().map(AsRef::as_ref).collect();
        let allowed = &self.setup.drivers.config.allowed_unsafe_sysctls;
        let strict_groups = self.setup.drivers.abilities.strict_groups();
        let taken = apparmor::admit(pod, self.setup.apparmor);
        let taken = taken.and_then(|()| admission::supplemental_groups(pod, strict_groups));
        taken.and_then(|()| admission::admit(pod, &others, self.setup.neighbours.room, allowed)).err()
    }

    fn remove(&mut self, uid: &str) {
        if let Some(handle) = self.workers.get(uid) {
            handle.updates.send_modify(|update| update.removed = true);
        }
    }

    /// A worker is done; a static pod that waited for its name starts.
    fn forget(&mut self, uid: &str) {
        self.setup.shown.0.write().remove(uid);
        self.setup.measures.running_pods.set(i64::try_from(self.workers.len()).unwrap_or(i64::MAX) - 1);
        let Some(handle) = self.workers.remove(uid) else { return };
        if let Some(next) = self.queued.remove(&handle.full_name)
            && self.statics.contains_key(pod::uid(&next))
        {
            self.update_static(next);
        }
    }
}

async fn both_synced(api: Reflector<Pod>, mut files: watch::Receiver<Option<StaticPods>>) {
    api.synced().await;
    // an error means that the kubelet stops
    let _ = files.wait_for(Option::is_some).await;
}
