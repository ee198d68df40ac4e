//! The controllers of a control plane: each watches shared caches, decides in a pure plan, and writes back through the
//! API.
//!
//! Must not know: the store, the API server, or where it runs.

mod api;
mod certificates;
mod claims;
pub mod config;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod discovery;
mod disruption;
mod endpoints;
mod garbage;
mod hash;
mod history;
mod job;
mod ledger;
mod metrics;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owner;
mod pod_control;
mod pod_gc;
mod pods;
mod quota;
mod replicaset;
mod revisions;
mod role_aggregation;
mod service_accounts;
mod statefulset;
mod storage_protection;
mod taint_eviction;
mod taints;
mod work;

use std::sync::Arc;

use pintle_daemon::metrics::Metrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::Config;
use context::Context;
pub use context::SHARED_INFORMERS;

/// Runs every controller until `cancel`. `clients` makes a client with the identity of a service account of
/// `kube-system` (`deployment-controller`, …), and for [`SHARED_INFORMERS`] with `system:kube-controller-manager`'s.
/// An error means that a controller ended by itself, which is a bug in it.
pub async fn run(
    config: Config,
    clients: impl Fn(&str) -> kube::Client + Send + Sync + 'static,
    metrics: Metrics,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let stop = cancel.child_token();
    let queues = metrics::QueueMetrics::new(&metrics);
    let context = Context::new(config, Arc::new(clients), queues, stop.clone());
    let mut controllers = JoinSet::new();
    controllers.spawn(replicaset::run(context.clone()));
    controllers.spawn(replicaset::run_replication_controllers(context.clone()));
    controllers.spawn(deployment::run(context.clone()));
    controllers.spawn(cronjob::run(context.clone()));
    controllers.spawn(disruption::run(context.clone()));
    controllers.spawn(role_aggregation::run(context.clone()));
    controllers.spawn(statefulset::run(context.clone()));
    controllers.spawn(daemonset::run(context.clone()));
    controllers.spawn(node_lifecycle::run(context.clone()));
    controllers.spawn(taint_eviction::run(context.clone()));
    controllers.spawn(pod_gc::run(context.clone()));
    controllers.spawn(garbage::run(context.clone()));
    controllers.spawn(job::run(context.clone()));
    controllers.spawn(job::ttl::run(context.clone()));
    controllers.spawn(endpoints::slice_controller::run(context.clone()));
    controllers.spawn(endpoints::endpoints_controller::run(context.clone()));
    controllers.spawn(endpoints::mirror::run(context.clone()));
    controllers.spawn(namespace::run(context.clone()));
    controllers.spawn(service_accounts::run_service_accounts(context.clone()));
    controllers.spawn(service_accounts::run_root_ca(context.clone()));
    controllers.spawn(node_ipam::run(context.clone()));
    controllers.spawn(quota::run(context.clone()));
    controllers.spawn(storage_protection::claims(context.clone()));
    controllers.spawn(storage_protection::volumes(context.clone()));
    controllers.spawn(certificates::approve::run(context.clone()));
    controllers.spawn(certificates::sign::run(context.clone()));
    controllers.spawn(certificates::clean::run(context.clone()));
    let mut result = Ok(());
    while let Some(ended) = controllers.join_next().await {
        if result.is_ok() && !cancel.is_cancelled() {
            result = Err(ended.err().map_or_else(|| anyhow::anyhow!("a controller ended"), anyhow::Error::from));
        }
        stop.cancel();
    }
    context.tasks.close();
    context.tasks.wait().await;
    result
}
