//! Every part of a cluster, built from the configuration and started as a task.
//!
//! Must not know: the order they are started in, or what is shown meanwhile.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use pintle_apiserver::ApiServer;
use pintle_apiserver::auth::{Tokens, UserInfo};
use pintle_daemon::backoff::Backoff;
use pintle_daemon::metrics::Metrics;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::containerd::Containerd;
use crate::cri::{self, Choice};
use crate::identity::Identity;
use crate::native;

/// A node that is not Ready after this is reported rather than waited for.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Where Debian and others put CNI plugins.
const CNI_BIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// The running parts and what they share.
pub struct Parts {
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
    pub metrics: Metrics,
    pub stop: CancellationToken,
}

impl Parts {
    pub fn new(stop: CancellationToken) -> Self {
        Self { running: JoinSet::new(), metrics: Metrics::default(), stop }
    }

    fn add(&mut self, name: &'static str, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.running.spawn(async move { (name, part.await) });
    }

    /// Why the first part that ended did: none should.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok((part, Ok(())))) => anyhow::anyhow!("{part} ended by itself"),
            Some(Ok((part, Err(error)))) => error.context(part),
            Some(Err(crash)) => anyhow::Error::from(crash).context("a part crashed"),
            None => anyhow::anyhow!("no part runs"),
        }
    }

    /// Tells every part to stop, and waits for them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// The API server and the certificates around it.
pub struct Cluster {
    pub server: Arc<ApiServer>,
    pub identity: Identity,
}

impl Cluster {
    /// A client with `user`'s rights.
    pub fn client(&self, user: UserInfo) -> Client {
        self.server.client(user)
    }
}

/// Opens the store, starts the API server and listens.
pub async fn apiserver(config: &Config, identity: Identity, parts: &mut Parts) -> anyhow::Result<Cluster> {
    let dir = config.data_dir.join("store");
    let store =
        pintle_store::open(&dir, pintle_store::Options { metrics: parts.metrics.clone(), ..Default::default() })
            .map_err(|error| explain(error, &dir))?;
    let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
    let settings = pintle_apiserver::Config {
        service_cidr: config.service_cidr.clone(),
        node_ports: config.node_ports,
        advertise: Some((config.advertise_address, config.secure_port)),
        kubelet_tls: Some(identity.kubelet_client_tls()?),
        front_proxy: Some(Arc::new(identity.front_proxy())),
        ..pintle_apiserver::Config::default()
    };
    let tokens = Tokens::new(pintle_pki::TokenKey::load(&identity.token_key)?, issuer);
    let server = ApiServer::start(settings, Arc::new(store), tokens, &parts.metrics, parts.stop.clone()).await?;
    let address = SocketAddr::from(([0, 0, 0, 0], config.secure_port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let (tls, stop) = (identity.apiserver_tls()?, parts.stop.clone());
    let serving = server.clone();
    parts.add("API server", async move { serving.serve(listener, tls, stop).await });
    Ok(Cluster { server, identity })
}

/// Controllers and scheduler.
pub fn control_plane(config: &Config, cluster: &Cluster, parts: &mut Parts) -> anyhow::Result<()> {
    let authority = pintle_pki::Authority::load(cluster.identity.authority.pair().clone())?;
    let settings = pintle_controllers::Config {
        signer: Some(pintle_controllers::config::Signer(std::sync::Arc::new(authority))),
        cluster_cidr: Some(parse_cidr(&config.cluster_cidr)?),
        root_ca: cluster.identity.authority.certificate_pem().to_owned(),
        ..pintle_controllers::Config::default()
    };
    let server = cluster.server.clone();
    let clients = move |name: &str| {
        server.client(match name {
            pintle_controllers::SHARED_INFORMERS => UserInfo::new("system:kube-controller-manager", &[]),
            account => UserInfo::service_account("kube-system", account, ""),
        })
    };
    let (metrics, stop) = (parts.metrics.clone(), parts.stop.clone());
    parts.add("controllers", pintle_controllers::run(settings, clients, metrics, stop));
    let client = cluster.client(UserInfo::new("system:kube-scheduler", &[]));
    let (metrics, stop) = (parts.metrics.clone(), parts.stop.clone());
    parts.add("scheduler", pintle_scheduler::run(client, pintle_scheduler::Config::default(), metrics, stop));
    Ok(())
}

fn parse_cidr(text: &str) -> anyhow::Result<(std::net::Ipv4Addr, u8)> {
    let (address, length) = text.split_once('/').context("a CIDR without a length")?;
    Ok((address.parse()?, length.parse()?))
}

/// The containerd that this configuration runs, where it runs one.
pub fn containerd(config: &Config) -> Containerd {
    Containerd {
        root: config.data_dir.join("containerd"),
        state: config.run_dir.join("containerd"),
        cni_conf_dir: config.cni_conf_dir.clone(),
        cni_bin_dir: config.data_dir.join("cni/bin"),
    }
}

/// A connection to the runtime, which is started first where it is ours. The embedded one serves its socket as well.
pub async fn runtime(config: &Config, parts: &mut Parts) -> anyhow::Result<pintle_cri::Runtime> {
    match &config.runtime {
        Choice::Endpoint(named) => cri::endpoint(config, named).await,
        Choice::Containerd => own_containerd(config).await,
        Choice::Embedded => {
            let embedded = cri::embedded(config, parts.stop.clone()).await?;
            let (serving, socket, stop) = (embedded.clone(), cri::socket(config), parts.stop.clone());
            parts.add("container runtime", async move { serving.serve(&socket, stop).await });
            cri::in_process(&embedded).await
        }
    }
}

/// A connection to the containerd of Pintle's own, started where it does not run.
pub async fn own_containerd(config: &Config) -> anyhow::Result<pintle_cri::Runtime> {
    let containerd = containerd(config);
    link_cni_plugins(config, &containerd.cni_bin_dir)?;
    containerd.ensure().await?;
    let runtime = initialized(&format!("unix://{}", containerd.socket().display())).await?;
    runtime.ensure_sandbox_image().await?;
    Ok(runtime)
}

/// containerd listens before its CRI plugin answers: asks until it does.
async fn initialized(endpoint: &str) -> anyhow::Result<pintle_cri::Runtime> {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
    let started = Instant::now();
    loop {
        match pintle_cri::connect(endpoint).await {
            Err(error) if started.elapsed() < READY_LIMIT => {
                tracing::debug!("the runtime does not answer yet: {error:#}");
                tokio::time::sleep(backoff.next_delay()).await;
            }
            connected => return connected,
        }
    }
}

/// containerd looks in one folder only: ours, with our plugin and links to those of the machine.
pub fn link_cni_plugins(config: &Config, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let this = std::env::current_exe().context("finding this program")?;
    let plugins = plugin_folders(config).into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    plugins.map(|plugin| plugin.path()).try_for_each(|plugin| match plugin.file_name() {
        Some(name) if !dir.join(name).exists() => link(&plugin, &dir.join(name)),
        _ => Ok(()),
    })?;
    pintle_cni::conf::install_plugin(dir, &this)
}

fn link(target: &Path, at: &Path) -> anyhow::Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(target, at),
    }
    .with_context(|| format!("linking {}", at.display()))
}

/// What can be done about a store that does not open.
fn explain(error: pintle_store::Error, dir: &Path) -> anyhow::Error {
    let advice = match error {
        pintle_store::Error::Corrupt { .. } => format!(
            "; nothing was changed. Put a copy of {0} back that was made while pintle was stopped, or move {0} away to \
             begin with an empty cluster",
            dir.display()
        ),
        _ => String::new(),
    };
    anyhow::Error::new(error).context(format!("opening the store in {}{advice}", dir.display()))
}

/// Kubelet and proxy.
pub fn node(config: &Config, cluster: &Cluster, runtime: pintle_cri::Runtime, parts: &mut Parts) -> anyhow::Result<()> {
    crate::host::note(&config.data_dir)?;
    let name = &config.node_name;
    let client = cluster.client(UserInfo::new(format!("system:node:{name}"), &["system:nodes"]));
    let settings = kubelet_settings(config, cluster)?;
    let (metrics, stop) = (parts.metrics.clone(), parts.stop.clone());
    parts.add("kubelet", pintle_kubelet::run(client, runtime, settings, metrics, stop));
    let client = cluster.client(UserInfo::new("system:kube-proxy", &[]));
    let settings = pintle_proxy::Config {
        node_name: name.clone(),
        cluster_cidr: config.cluster_cidr.clone(),
        service_cidr: config.service_cidr.clone(),
        cluster_dns: Some(config.cluster_dns.into()),
        cluster_domain: config.cluster_domain.clone(),
        ..pintle_proxy::Config::default()
    };
    let (metrics, stop) = (parts.metrics.clone(), parts.stop.clone());
    parts.add("proxy", pintle_proxy::run(client, settings, metrics, stop));
    Ok(())
}

fn kubelet_settings(config: &Config, cluster: &Cluster) -> anyhow::Result<pintle_kubelet::Config> {
    let mut settings = pintle_kubelet::Config::default();
    if let Some(file) = &config.kubelet_config {
        settings = pintle_kubelet::config::file::load(file, settings)?;
    }
    settings.cgroup_driver = match config.cgroup_driver {
        Some(pintle_cri::CgroupDriver::Systemd) => pintle_kubelet::config::CgroupDriver::Systemd,
        Some(pintle_cri::CgroupDriver::Cgroupfs) => pintle_kubelet::config::CgroupDriver::Cgroupfs,
        None => settings.cgroup_driver,
    };
    let identity = &cluster.identity;
    settings.node_name = config.node_name.clone();
    settings.root_dir = config.kubelet_root_dir.clone();
    settings.static_pod_path = Some(config.pod_manifest_path.clone());
    settings.node_ips = vec![config.advertise_address];
    settings.port = config.kubelet_port;
    settings.cluster_dns = vec![config.cluster_dns.to_string()];
    settings.cluster_domain = config.cluster_domain.clone();
    settings.tls = Some(pintle_kubelet::config::ServerTls {
        certificate: identity.kubelet.certificate.clone().into_bytes(),
        key: identity.kubelet.key.clone().into_bytes(),
        client_ca: Some(identity.authority.certificate_pem().as_bytes().to_vec()),
    });
    Ok(settings)
}

/// The Service that pods' resolvers ask; the proxy answers at its address itself.
pub async fn dns_service(config: &Config, client: Client) -> anyhow::Result<()> {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "kube-dns", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        }},
        "spec": {
            "clusterIP": config.cluster_dns,
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
            ],
        },
    }))?;
    let services = Api::<Service>::namespaced(client, "kube-system");
    if services.get_opt("kube-dns").await.context("reading the Service kube-dns")?.is_some() {
        return Ok(());
    }
    services.create(&PostParams::default(), &service).await.map(drop).context("creating the Service kube-dns")
}

/// Waits for the node's share of the pod addresses and writes the CNI configuration for it, where there is none.
pub async fn pod_network(config: &Config, client: Client, runtime: &pintle_cri::Runtime) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client);
    let has_cidr = |node: Option<&Node>| node.and_then(pod_cidr).is_some();
    let node = tokio::time::timeout(READY_LIMIT, await_condition(nodes, &config.node_name, has_cidr))
        .await
        .context("the node got no pod addresses")??;
    let cidr = node.as_ref().and_then(pod_cidr).context("the node lost its pod addresses")?;
    if let Some(dir) = others_plugins(config, runtime).await? {
        let this = std::env::current_exe().context("finding this program")?;
        pintle_cni::conf::install_plugin(&dir, &this)?;
    }
    pintle_cni::conf::install(&config.cni_conf_dir, cidr, &config.data_dir.join("cni/state"))
        .with_context(|| format!("writing the CNI configuration in {}", config.cni_conf_dir.display()))?;
    Ok(())
}

/// Where a runtime of somebody else's looks for our plugin; none where the pod network is somebody else's too. CRI-O does
/// not tell, and looks where upstream's manuals put plugins.
async fn others_plugins(config: &Config, runtime: &pintle_cri::Runtime) -> anyhow::Result<Option<PathBuf>> {
    let Choice::Endpoint(named) = &config.runtime else { return Ok(None) };
    if native::socket(named).is_some() || pintle_cni::conf::is_foreign(&config.cni_conf_dir)? {
        return Ok(None);
    }
    if let Some(dir) = &config.cni_bin_dir {
        return Ok(Some(dir.clone()));
    }
    let told = runtime.cni_directories().await.context("asking the runtime where CNI plugins are")?;
    Ok(Some(told.map_or_else(|| CNI_BIN_DIRS[0].into(), |(_, plugins)| plugins)))
}

/// The folders of CNI plugins on this machine, ours excepted.
pub fn plugin_folders(config: &Config) -> Vec<PathBuf> {
    config.cni_bin_dir.clone().map_or_else(|| CNI_BIN_DIRS.map(PathBuf::from).to_vec(), |dir| vec![dir])
}

fn pod_cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref()
}

pub async fn node_ready(config: &Config, client: Client) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client);
    let ready = |node: Option<&Node>| node.is_some_and(|node| condition(node).is_some_and(|it| it.0 == "True"));
    let waited = tokio::time::timeout(READY_LIMIT, await_condition(nodes.clone(), &config.node_name, ready)).await;
    if let Ok(done) = waited {
        return done.map(drop).context("watching the node");
    }
    let node = nodes.get(&config.node_name).await.context("reading the node")?;
    let why = condition(&node).map_or_else(|| "the kubelet has not reported".to_owned(), |(_, why)| why);
    anyhow::bail!("the node is not Ready: {why}")
}

/// The Ready condition: `(status, message)`.
fn condition(node: &Node) -> Option<(&str, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|it| it.type_ == "Ready")?;
    Some((&ready.status, ready.message.clone().unwrap_or_default()))
}
