//! The scheduler: watches nodes and pods, chooses a node for each pod that has none, and binds it.
//!
//! Must not know: the API server, the store, the kubelet; it has a `kube::Client`.

mod apply;
mod config;
mod metrics;
mod observe;
pub mod plan;
mod queue;
mod scheduler;

use kube::api::Api;
use kube::runtime::watcher;
use pintle_client::Reflector;
use pintle_client::events::Recorder;
use pintle_daemon::metrics::Metrics;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::metrics::SchedulerMetrics;
use crate::scheduler::{Scheduler, Sources};

/// Schedules until `cancel`. The client's identity needs what upstream's `system:kube-scheduler` may do.
pub async fn run(
    client: kube::Client,
    config: Config,
    metrics: Metrics,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let all = watcher::Config::default;
    // what has ended takes up nothing
    let pods = all().fields("status.phase!=Succeeded,status.phase!=Failed");
    let sources = Sources {
        pods: Reflector::start_trimmed(Api::all(client.clone()), pods, cancel.clone(), observe::trim_pod),
        nodes: Reflector::start_trimmed(Api::all(client.clone()), all(), cancel.clone(), observe::trim_node),
        namespaces: Reflector::start(Api::all(client.clone()), all(), cancel.clone()),
        budgets: Reflector::start(Api::all(client.clone()), all(), cancel.clone()),
    };
    let recorder = Recorder::start(client.clone(), &config.scheduler_name, "", cancel.clone());
    let metrics = SchedulerMetrics::new(&metrics, &config.scheduler_name);
    let synced = async {
        sources.nodes.synced().await;
        sources.namespaces.synced().await;
        sources.budgets.synced().await;
        sources.pods.synced().await;
    };
    tokio::select! {
        () = synced => {}
        () = cancel.cancelled() => return Ok(()),
    }
    Scheduler::new(config, client, recorder, metrics).run(sources, cancel).await;
    Ok(())
}
