//! The proxy's loop: watch → model → rules, with a slow comparison behind it; DNS and HTTP beside it.
//!
//! Must not know: how any of these work.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::RwLock;
use pintle_daemon::metrics::Metrics;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backend::{self, Table};
use crate::config::Config;
use crate::health::{Health, HealthPorts, serve_health, serve_metrics};
use crate::metrics::ProxyMetrics;
use crate::model::{Model, Node};
use crate::plan::element::{Range, family_of};
use crate::plan::service::Context;
use crate::syncer::Syncer;
use crate::watch::{NodeState, Sources, Touched, apply};
use crate::{dns, host};
use pintle_nftables::netlink::Socket;
use pintle_nftables::{Family, forwarding};

/// Runs until cancelled. The rules stay in the kernel then: `cleanup` removes them. Errors when the kernel refuses the
/// table altogether, or an address cannot be listened on.
pub async fn run(
    client: kube::Client,
    config: Config,
    metrics: Metrics,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    host::prepare(host::has_ipv6());
    let health = Arc::new(Health::default());
    let _listeners = listeners(&config, &metrics, &health).await?;
    let mut sources = Sources::start(&client, &config.node_name, &cancel);
    let initial = tokio::select! {
        initial = sources.initial() => initial,
        () = cancel.cancelled() => return Ok(()),
    };
    let model = Arc::new(RwLock::new(Model::default()));
    let mut touched = Touched::default();
    for batch in initial {
        apply(&mut model.write(), batch, &mut touched);
    }
    let (config, node) = (Arc::new(config), touched.node.unwrap_or_default());
    let metrics = ProxyMetrics::register(&metrics);
    let mut proxy = Proxy::start(config.clone(), model.clone(), node, metrics, health.clone()).await?;
    let mut tasks = JoinSet::new();
    if let Some(address) = config.cluster_dns {
        dns::add_addresses(&[address]).await?;
        let settings = dns::Settings {
            listen: vec![address],
            port: 53,
            domain: config.cluster_domain.clone(),
            resolv_conf: config.resolv_conf.clone(),
        };
        tasks.spawn(dns::serve(settings, model.clone(), cancel.clone()));
    }
    let mut ports = HealthPorts::new(model, config.node_name.clone(), health);
    ports.update().await;
    let mut resync = tokio::time::interval(config.sync_period.max(Duration::from_secs(1)));
    resync.reset();
    loop {
        let mut touched = Touched::default();
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            batch = sources.next() => match batch {
                Some(batch) => apply(&mut proxy.model.write(), batch, &mut touched),
                None => return Ok(()),
            },
            _ = resync.tick() => { proxy = proxy.resync().await?; continue; }
            Some(ended) = tasks.join_next() => return ended.context("the DNS task")?.context("serving DNS"),
        }
        let services_changed = touched.service_changes > 0;
        proxy = proxy.sync(touched).await?;
        if services_changed {
            ports.update().await;
        }
    }
}

/// Removes the tables, the rules that accept forwarded packets, and the link; says what there was.
pub async fn cleanup() -> anyhow::Result<Vec<String>> {
    let mut removed = backend::cleanup()?;
    removed.extend(forwarding::close(&mut Socket::open()?)?);
    if dns::remove_link().await? {
        removed.push(format!("link {}", dns::LINK));
    }
    Ok(removed)
}

async fn listeners(config: &Config, metrics: &Metrics, health: &Arc<Health>) -> anyhow::Result<Vec<Aborting>> {
    let mut listeners = Vec::new();
    if let Some(address) = config.healthz_bind_address {
        listeners.push(Aborting(serve_health(address, health.clone()).await.context("healthzBindAddress")?));
    }
    if let Some(address) = config.metrics_bind_address {
        listeners.push(Aborting(serve_metrics(address, metrics.clone()).await.context("metricsBindAddress")?));
    }
    Ok(listeners)
}

/// A task that ends with this value.
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Both families' rules. Netlink blocks, so each step runs on a blocking thread and hands this value back.
struct Proxy {
    config: Arc<Config>,
    model: Arc<RwLock<Model>>,
    node: NodeState,
    syncers: Vec<Syncer>,
    metrics: ProxyMetrics,
    health: Arc<Health>,
}

impl Proxy {
    async fn start(
        config: Arc<Config>,
        model: Arc<RwLock<Model>>,
        node: NodeState,
        metrics: ProxyMetrics,
        health: Arc<Health>,
    ) -> anyhow::Result<Self> {
        let ranges = config.cluster_ranges()?;
        let proxy = Self { config, model, node, syncers: Vec::new(), metrics, health };
        proxy
            .blocking(move |proxy| {
                for family in Family::BOTH.into_iter().filter(|f| *f == Family::V4 || host::has_ipv6()) {
                    let context = context(&proxy.config, &proxy.node.node, &ranges, family)?;
                    let started = Instant::now();
                    let mut syncer = Syncer::start(Table::open(family, &ranges)?, context.clone())?;
                    let changed = syncer.sync_all(&proxy.model.read(), context)?;
                    syncer.set_service_cidrs(&proxy.config.service_ranges()?)?;
                    let took = started.elapsed();
                    proxy.metrics.synced(family, true, took);
                    tracing::info!(family = family.name(), changed, ?took, "rules are in place");
                    proxy.syncers.push(syncer);
                }
                open_forwarding(&proxy.config);
                proxy.health.synced(true);
                Ok(())
            })
            .await
    }

    /// Brings the rules to the model where it was touched.
    async fn sync(self, touched: Touched) -> anyhow::Result<Self> {
        self.metrics.service_changes.inc_by(touched.service_changes);
        self.metrics.endpoint_changes.inc_by(touched.slice_changes);
        self.blocking(move |proxy| {
            if let Some(node) = touched.node {
                proxy.health.node_going(node.deleting);
                proxy.node = node;
            }
            if let Some(ranges) = touched.service_cidrs {
                let ranges = if ranges.is_empty() { proxy.config.service_ranges()? } else { ranges };
                proxy.each(|syncer, _, _| syncer.set_service_cidrs(&ranges).map(|()| false));
            }
            proxy.each(|syncer, proxy, model| {
                let context =
                    context(&proxy.config, &proxy.node.node, &proxy.config.cluster_ranges()?, syncer.family())?;
                let full = context != *syncer.context();
                let changed = match full {
                    true => syncer.sync_all(model, context)?,
                    false => syncer.sync(model, touched.services.iter())?,
                };
                tracing::debug!(family = syncer.family().name(), changed, full, "synced");
                if changed > 0 {
                    let ended = syncer.end_stale_flows(model, touched.services.iter())?;
                    proxy.metrics.flows_ended(syncer.family(), ended);
                }
                Ok(full)
            });
            Ok(())
        })
        .await
    }

    /// Compares the kernel with the rules: somebody else may have changed them, and this host's addresses may be others.
    async fn resync(self) -> anyhow::Result<Self> {
        self.blocking(|proxy| {
            proxy.each(|syncer, proxy, model| {
                let context =
                    context(&proxy.config, &proxy.node.node, &proxy.config.cluster_ranges()?, syncer.family())?;
                let changed =
                    if context == *syncer.context() { syncer.resync()? } else { syncer.sync_all(model, context)? };
                if changed > 0 {
                    tracing::warn!(
                        family = syncer.family().name(),
                        changed,
                        "the kernel's rules were not what they should be"
                    );
                }
                Ok(true)
            });
            open_forwarding(&proxy.config);
            Ok(())
        })
        .await
    }

    /// One step of every family's rules, timed. A failure is told and left to the next resync.
    fn each(&mut self, act: impl Fn(&mut Syncer, &Self, &Model) -> anyhow::Result<bool>) {
        let mut syncers = std::mem::take(&mut self.syncers);
        let model = self.model.clone();
        let mut ok = true;
        for syncer in &mut syncers {
            let started = Instant::now();
            match act(syncer, self, &model.read()) {
                Ok(full) => self.metrics.synced(syncer.family(), full, started.elapsed()),
                Err(error) => {
                    ok = false;
                    self.metrics.failed(syncer.family());
                    tracing::error!("{} rules: {error:#}", syncer.family().name());
                }
            }
        }
        self.health.synced(ok);
        self.syncers = syncers;
    }

    async fn blocking(
        mut self,
        act: impl FnOnce(&mut Self) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let step = move || act(&mut self).map(|()| self);
        tokio::task::spawn_blocking(step).await.context("a step of the rules")?
    }
}

/// Where the host drops what it forwards: Service traffic, and what pods send and get, is accepted. A failure is told,
/// and left to the next resync; connections to this host's own addresses work nevertheless.
fn open_forwarding(config: &Config) {
    let done = || {
        let mut socket = Socket::open()?;
        Family::BOTH.into_iter().try_fold(0, |added, family| {
            anyhow::Ok(added + forwarding::open(&mut socket, family, &forwarded(config, family)?)?)
        })
    };
    match done() {
        Ok(0) => {}
        Ok(added) => tracing::info!("this host's FORWARD chain drops packets: {added} rules accept those of pods"),
        Err(error) => tracing::warn!("this host may drop packets of pods: {error:#}"),
    }
}

/// What of a family passes, as iptables says it.
fn forwarded(config: &Config, family: Family) -> anyhow::Result<Vec<String>> {
    let mut rules = vec!["-m conntrack --ctstate DNAT".to_string()];
    for (cidr, range) in config.cluster_cidr.split(',').map(str::trim).zip(config.cluster_ranges()?) {
        if family_of(range.first) == family {
            rules.extend([format!("-s {cidr}"), format!("-d {cidr}")]);
        }
    }
    Ok(rules)
}

fn context(config: &Config, node: &Node, ranges: &[Range], family: Family) -> anyhow::Result<Context> {
    let mine = |address: &IpAddr| family_of(*address) == family;
    let primary = || node.addresses.iter().copied().find(|address| mine(address)).into_iter().collect();
    let node_port_addresses = match config.node_port_ranges()? {
        None => primary(),
        Some(ranges) => host::addresses_within(&ranges).into_iter().filter(mine).collect(),
    };
    Ok(Context {
        family,
        node: Node { name: config.node_name.clone(), ..node.clone() },
        node_port_addresses,
        pods_known: ranges.iter().any(|range| family_of(range.first) == family),
        masquerade_all: config.masquerade_all,
        served_here: config.cluster_dns.into_iter().collect(),
    })
}
