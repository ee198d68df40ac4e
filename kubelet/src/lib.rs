//! The node agent: pods that the API or files assign to this node, run through a CRI runtime, reported back.
//!
//! Must not know: the API server, the store, any runtime's inside. It meets the control plane through a `kube::Client`
//! and containers through CRI.

mod apply;
mod cgroups;
pub mod config;
mod images;
mod logs;
mod measure;
mod node;
mod objects;
mod observe;
mod plan;
mod pods;
mod probes;
mod references;
mod report;
mod server;
mod sources;
mod volumes;
mod worker;

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::watcher;
use kube::{Api, Client};
use pintle_client::Reflector;
use pintle_client::events::Recorder;
use pintle_cri::Runtime;
use pintle_daemon::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use config::Config;
use references::Facts;

/// Runs the kubelet until `cancel`. Containers keep running afterwards, and the next run takes them over.
///
/// # Errors
/// The configuration does not hold together, or the machine cannot be read. The API and the runtime may come and go.
pub async fn run(
    client: Client,
    runtime: Runtime,
    config: Config,
    metrics: Metrics,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    config.validate()?;
    // a part that cannot go on ends the others too
    let cancel = cancel.child_token();
    let config = Arc::new(config);
    std::fs::create_dir_all(&config.root_dir).with_context(|| format!("making {}", config.root_dir.display()))?;
    let machine = node::Machine::read(&config.root_dir)?;
    let facts = Facts {
        pod_ips: Vec::new(),
        host_ips: node::host_ips(&config.node_ips),
        allocatable: node::allocatable(&config, &machine),
    };
    let (_keep, facts) = watch::channel(facts);
    let recorder = Recorder::start(client.clone(), "kubelet", &config.node_name, cancel.clone());
    let driver = cgroup_driver(&runtime, &config).await?;
    let drivers = drivers(&client, &runtime, &config, &recorder, driver, machine.memory, &cancel);
    let (statics, files) = watch::channel(None);
    let wakes = observe::events::Wakes::default();
    let setup = pods::Setup {
        drivers,
        measures: measure::Measures::new(&metrics),
        wakes: wakes.clone(),
        reports: report::Reports::new(client.clone(), cancel.clone()),
        node: facts.clone(),
        shown: pods::Shown::default(),
        cancel: cancel.clone(),
    };
    let shown = setup.shown.clone();
    let server = server::Server::new(config.clone(), client.clone(), runtime.clone(), shown, metrics, machine.clone());
    let keeper = node::NodeKeeper {
        client: client.clone(),
        runtime: runtime.clone(),
        recorder: recorder.clone(),
        config: config.clone(),
        machine,
        facts,
    };
    let thresholds = images::collect::Thresholds {
        high: config.image_gc_high,
        low: config.image_gc_low,
        minimum_age: config.image_minimum_gc_age,
    };
    let reference = node::reference(&config.node_name);
    let assigned = watcher::Config::default().fields(&format!("spec.nodeName={}", config.node_name));
    let api = Reflector::start(Api::<Pod>::all(client), assigned, cancel.clone());
    let serve = async {
        let served = server.run(cancel.clone()).await.context("the kubelet's server");
        cancel.cancel();
        served
    };
    let (served, ..) = tokio::join!(
        serve,
        logs::rotate::run(runtime.clone(), config.clone(), cancel.clone()),
        pods::Pods::new(setup).run(api, files),
        static_pods(&config, statics, &cancel),
        keeper.run(cancel.clone()),
        images::collect::run(runtime.clone(), thresholds, recorder, reference, cancel.clone()),
        cancel.run_until_cancelled(observe::events::run(runtime, wakes)),
    );
    served
}

async fn static_pods(
    config: &Config,
    to: watch::Sender<Option<sources::files::StaticPods>>,
    cancel: &CancellationToken,
) {
    match config.static_pod_path.clone() {
        Some(dir) => sources::files::run(dir, config.node_name.clone(), to, cancel.clone()).await,
        None => {
            to.send_replace(Some(sources::files::StaticPods::new()));
            cancel.cancelled().await;
        }
    }
}

/// The runtime's own driver, else the configured one.
async fn cgroup_driver(runtime: &Runtime, config: &Config) -> anyhow::Result<config::CgroupDriver> {
    use pintle_cri::CgroupDriver as Asked;
    let configured = match config.cgroup_driver {
        config::CgroupDriver::Cgroupfs => Asked::Cgroupfs,
        config::CgroupDriver::Systemd => Asked::Systemd,
    };
    Ok(match runtime.cgroup_driver(configured).await.context("asking the runtime for its cgroup driver")? {
        Asked::Cgroupfs => config::CgroupDriver::Cgroupfs,
        Asked::Systemd => config::CgroupDriver::Systemd,
    })
}

fn drivers(
    client: &Client,
    runtime: &Runtime,
    config: &Arc<Config>,
    recorder: &Recorder,
    driver: config::CgroupDriver,
    node_memory: i64,
    cancel: &CancellationToken,
) -> apply::Drivers {
    let objects = objects::Objects::new(client.clone(), cancel.clone());
    let parallel = if config.serialize_image_pulls { 1 } else { config.max_parallel_image_pulls };
    apply::Drivers {
        images: images::Images::new(runtime.clone(), recorder.clone(), objects.clone(), parallel),
        volumes: volumes::Volumes::new(config.root_dir.clone(), client.clone(), objects.clone()),
        objects,
        services: Reflector::start(Api::<Service>::all(client.clone()), watcher::Config::default(), cancel.clone()),
        recorder: recorder.clone(),
        cgroups: cgroups::Cgroups::new(driver, &config.cgroup_root, config.cgroups_per_qos),
        config: config.clone(),
        node_memory,
        runtime: runtime.clone(),
    }
}
