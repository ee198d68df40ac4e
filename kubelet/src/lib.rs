//! The node agent: pods that the API or files assign to this node, run through a CRI runtime, reported back.
//!
//! Must not know: the API server, the store, any runtime's inside. It meets the control plane through a `kube::Client`
//! and containers through CRI.

mod abilities;
mod apply;
mod cgroups;
pub mod config;
mod images;
pub mod logs;
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
mod users;
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
    let driver = cgroup_driver(&runtime, &config).await?;
    let abilities = abilities::Abilities::default();
    if let Err(status) = abilities.ask(&runtime).await {
        tracing::warn!("asking the runtime what it can do: {}", status.message());
    }
    let recorder = Recorder::start(client.clone(), "kubelet", &config.node_name, cancel.clone());
    let agent = Agent { client, runtime, abilities, config, metrics, machine, recorder, cancel };
    agent.run(driver).await
}

/// What the parts are made from.
struct Agent {
    client: Client,
    runtime: Runtime,
    abilities: abilities::Abilities,
    config: Arc<Config>,
    metrics: Metrics,
    machine: node::Machine,
    recorder: Recorder,
    cancel: CancellationToken,
}

impl Agent {
    async fn run(self, driver: config::CgroupDriver) -> anyhow::Result<()> {
        let facts = Facts {
            pod_ips: Vec::new(),
            host_ips: node::host_ips(&self.config.node_ips),
            allocatable: node::allocatable(&self.config, &self.machine),
        };
        let (_keep, facts) = watch::channel(facts);
        let (statics, files) = watch::channel(None);
        let (config, cancel) = (&self.config, &self.cancel);
        let wakes = observe::events::Wakes::default();
        let shown = pods::Shown::default();
        let pods = pods::Pods::new(self.pods(driver, wakes.clone(), shown.clone(), facts.clone())?);
        let assigned = watcher::Config::default().fields(&format!("spec.nodeName={}", config.node_name));
        let api = Reflector::start(Api::<Pod>::all(self.client.clone()), assigned, cancel.clone());
        let (served, ..) = tokio::join!(
            self.serve(shown),
            logs::rotate::run(self.runtime.clone(), config.clone(), cancel.clone()),
            pods.run(api, files),
            static_pods(config, statics, cancel),
            self.node(facts).run(cancel.clone()),
            self.collect_images(),
            cancel.run_until_cancelled(observe::events::run(self.runtime.clone(), wakes)),
        );
        served
    }

    fn pods(
        &self,
        driver: config::CgroupDriver,
        wakes: observe::events::Wakes,
        shown: pods::Shown,
        node: watch::Receiver<Facts>,
    ) -> anyhow::Result<pods::Setup> {
        Ok(pods::Setup {
            drivers: self.drivers(driver)?,
            measures: measure::Measures::new(&self.metrics),
            wakes,
            reports: report::Reports::new(self.client.clone(), self.cancel.clone()),
            node,
            neighbours: pods::Neighbours::new(shown.clone(), node::room(&self.config, &self.machine)),
            apparmor: self.machine.apparmor,
            shown,
            cancel: self.cancel.clone(),
        })
    }

    async fn serve(&self, shown: pods::Shown) -> anyhow::Result<()> {
        let server = server::Server::new(
            self.config.clone(),
            self.client.clone(),
            self.runtime.clone(),
            shown,
            self.metrics.clone(),
            self.machine.clone(),
        );
        let served = server.run(self.cancel.clone()).await.context("the kubelet's server");
        self.cancel.cancel();
        served
    }

    fn node(&self, facts: watch::Receiver<Facts>) -> node::NodeKeeper {
        node::NodeKeeper {
            client: self.client.clone(),
            runtime: self.runtime.clone(),
            abilities: self.abilities.clone(),
            recorder: self.recorder.clone(),
            config: self.config.clone(),
            machine: self.machine.clone(),
            facts,
        }
    }

    async fn collect_images(&self) {
        let thresholds = images::collect::Thresholds {
            high: self.config.image_gc_high,
            low: self.config.image_gc_low,
            minimum_age: self.config.image_minimum_gc_age,
        };
        let node = node::reference(&self.config.node_name);
        images::collect::run(self.runtime.clone(), thresholds, self.recorder.clone(), node, self.cancel.clone()).await;
    }

    fn drivers(&self, driver: config::CgroupDriver) -> anyhow::Result<apply::Drivers> {
        let (config, runtime, recorder) = (&self.config, &self.runtime, &self.recorder);
        let objects = objects::Objects::new(self.client.clone(), self.cancel.clone());
        let parallel = if config.serialize_image_pulls { 1 } else { config.max_parallel_image_pulls };
        let services = Api::<Service>::all(self.client.clone());
        let cgroups = cgroups::Cgroups::new(driver, &config.cgroup_root, config.cgroups_per_qos, config.pod_pids_limit);
        let (cpu, memory) = node::allocatable(config, &self.machine);
        cgroups.enforce_node_allocatable(cpu, memory);
        Ok(apply::Drivers {
            users: users::Users::open(config.root_dir.join("pods"), config.user_ids_per_pod, config.max_pods)?,
            images: images::Images::new(
                runtime.clone(),
                recorder.clone(),
                objects.clone(),
                config.root_dir.clone(),
                parallel,
            ),
            volumes: volumes::Volumes::new(config.root_dir.clone(), self.client.clone(), objects.clone()),
            objects,
            services: Reflector::start(services, watcher::Config::default(), self.cancel.clone()),
            recorder: recorder.clone(),
            node: cgroups.facts(self.machine.memory, !config.single_process_oom_kill),
            cgroups,
            config: config.clone(),
            runtime: runtime.clone(),
            abilities: self.abilities.clone(),
        })
    }
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
