//! What every controller is started with: shared caches, clients under its own identity, its queue and event recorder.
//!
//! Must not know: any one controller.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Api, Client};
use pintle_client::events::Recorder;
use pintle_client::{Change, Reflector, Subscription, Watched};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::discovery::Served;
use crate::metrics::QueueMetrics;
use crate::work::{Key, Queue};

/// The name under which the shared caches ask for their client; upstream's controller manager lists and watches under
/// its own identity, `system:kube-controller-manager`.
pub const SHARED_INFORMERS: &str = "shared-informers";

/// Deletions that a reader may be behind before it misses some, and is told so.
const DELETIONS: usize = 1024;

/// An object that is gone.
#[derive(Debug, Clone)]
pub struct Deletion {
    pub kind: Arc<Served>,
    pub namespace: String,
}

/// One watch per kind, shared by all controllers.
pub struct Caches {
    pub pods: Reflector<Pod>,
    pub nodes: Reflector<Node>,
    pub services: Reflector<Service>,
    pub endpoints: Reflector<Endpoints>,
    pub endpoint_slices: Reflector<EndpointSlice>,
    pub namespaces: Reflector<Namespace>,
    pub service_accounts: Reflector<ServiceAccount>,
    /// Only `kube-root-ca.crt` of every namespace.
    pub root_ca_maps: Reflector<ConfigMap>,
    pub claims: Reflector<PersistentVolumeClaim>,
    /// Only those of nodes.
    pub leases: Reflector<Lease>,
    pub deployments: Reflector<Deployment>,
    pub replica_sets: Reflector<ReplicaSet>,
    pub replication_controllers: Reflector<ReplicationController>,
    pub daemon_sets: Reflector<DaemonSet>,
    pub stateful_sets: Reflector<StatefulSet>,
    pub revisions: Reflector<ControllerRevision>,
    pub jobs: Reflector<Job>,
    pub cron_jobs: Reflector<CronJob>,
    pub disruption_budgets: Reflector<PodDisruptionBudget>,
    pub resource_quotas: Reflector<ResourceQuota>,
    pub volumes: Reflector<PersistentVolume>,
    pub certificate_requests: Reflector<CertificateSigningRequest>,
}

impl Caches {
    fn start(client: &Client, cancel: &CancellationToken) -> Self {
        let all = watcher::Config::default;
        let everywhere = Watcher { client, cancel };
        Self {
            pods: everywhere.start(all(), trim_pod),
            nodes: everywhere.start(all(), |_| {}),
            services: everywhere.start(all(), |_| {}),
            endpoints: everywhere.start(all(), |_| {}),
            endpoint_slices: everywhere.start(all(), |_| {}),
            namespaces: everywhere.start(all(), |_| {}),
            service_accounts: everywhere.start(all(), |_| {}),
            root_ca_maps: everywhere.start(all().fields("metadata.name=kube-root-ca.crt"), |_| {}),
            claims: everywhere.start(all(), |_| {}),
            leases: Reflector::start(Api::namespaced(client.clone(), "kube-node-lease"), all(), cancel.clone()),
            deployments: everywhere.start(all(), |_| {}),
            replica_sets: everywhere.start(all(), |_| {}),
            replication_controllers: everywhere.start(all(), |_| {}),
            daemon_sets: everywhere.start(all(), |_| {}),
            stateful_sets: everywhere.start(all(), |_| {}),
            revisions: everywhere.start(all(), |_| {}),
            jobs: everywhere.start(all(), |_| {}),
            cron_jobs: everywhere.start(all(), |_| {}),
            disruption_budgets: everywhere.start(all(), |_| {}),
            resource_quotas: everywhere.start(all(), |_| {}),
            volumes: everywhere.start(all(), |_| {}),
            certificate_requests: everywhere.start(all(), |_| {}),
        }
    }
}

struct Watcher<'a> {
    client: &'a Client,
    cancel: &'a CancellationToken,
}

impl Watcher<'_> {
    fn start<K: Watched + kube::Resource<DynamicType = ()>>(
        &self,
        config: watcher::Config,
        trim: fn(&mut K),
    ) -> Reflector<K> {
        Reflector::start_trimmed(Api::all(self.client.clone()), config, self.cancel.clone(), trim)
    }
}

/// Drops what no controller reads, which is most of a pod: volumes but claims, commands, environments, probes.
fn trim_pod(pod: &mut Pod) {
    let Some(spec) = pod.spec.as_mut() else { return };
    // before a pod is bound, its node affinity says which node a DaemonSet's pod is for
    let bound = spec.node_name.is_some();
    spec.affinity = spec.affinity.take().filter(|_| !bound);
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
    }
    spec.volumes.take_if(|volumes| volumes.is_empty());
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.args = None;
        container.command = None;
        container.env = None;
        container.env_from = None;
        container.lifecycle = None;
        container.liveness_probe = None;
        container.readiness_probe = None;
        container.startup_probe = None;
        container.volume_mounts = None;
        container.security_context = None;
    }
}

/// Everything a controller may use.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub caches: Arc<Caches>,
    pub cancel: CancellationToken,
    pub tasks: TaskTracker,
    /// What the garbage collector's watches show to be gone, of every kind.
    pub deletions: broadcast::Sender<Deletion>,
    clients: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    metrics: QueueMetrics,
}

impl Context {
    pub fn new(
        config: Config,
        clients: Arc<dyn Fn(&str) -> Client + Send + Sync>,
        metrics: QueueMetrics,
        cancel: CancellationToken,
    ) -> Self {
        let caches = Arc::new(Caches::start(&clients(SHARED_INFORMERS), &cancel));
        caches.pods.index_owners();
        caches.replica_sets.index_owners();
        caches.jobs.index_owners();
        caches.revisions.index_owners();
        let (deletions, _) = broadcast::channel(DELETIONS);
        Self { config: Arc::new(config), caches, cancel, tasks: TaskTracker::new(), deletions, clients, metrics }
    }

    /// A client with the identity of this service account in `kube-system`.
    pub fn client(&self, service_account: &str) -> Client {
        (self.clients)(service_account)
    }

    /// A recorder of events that come from `component`, written with that client's identity.
    pub fn recorder(&self, client: &Client, component: &str) -> Recorder {
        Recorder::start(client.clone(), component, "", self.cancel.clone())
    }

    pub fn queue<K: Key>(&self, name: &'static str) -> Queue<K> {
        Queue::new(name, self.metrics.clone())
    }

    /// Puts the keys that each change of `source` concerns into `queue`, until the end.
    pub fn feed<O: Watched, K: Key>(
        &self,
        source: &Reflector<O>,
        queue: &Queue<K>,
        concerned: impl Fn(&Change<O>) -> Vec<K> + Send + 'static,
    ) {
        let queue = queue.clone();
        self.each(source, move |change| concerned(change).into_iter().for_each(|key| queue.add(key)));
    }

    /// Looks at each change of `source`, until the end.
    pub fn each<O: Watched>(&self, source: &Reflector<O>, mut look: impl FnMut(&Change<O>) + Send + 'static) {
        let mut changes: Subscription<O> = source.subscribe();
        self.tasks.spawn(async move {
            while let Some(batch) = changes.next().await {
                batch.iter().for_each(&mut look);
            }
        });
    }
}
