//! The kubelet's HTTPS server: who may ask, what is asked, the answer.
//!
//! Must not know: how pods are run (it reads what they show and asks the runtime).

mod access;
mod answer;
mod checkpoint;
mod identity;
mod logs;
mod pressure;
mod rates;
mod route;
mod session;
mod stats;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::Client;
use pintle_cri::Runtime;
use pintle_daemon::metrics::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::node::Machine;
use crate::pods::Shown;
use answer::{Answer, Body};
use route::Route;

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the handlers read.
pub struct Server {
    pub config: Arc<Config>,
    pub runtime: Runtime,
    pub shown: Shown,
    pub metrics: Metrics,
    pub machine: Machine,
    access: access::Access,
    rates: rates::Rates,
}

impl Server {
    pub fn new(
        config: Arc<Config>,
        client: Client,
        runtime: Runtime,
        shown: Shown,
        metrics: Metrics,
        machine: Machine,
    ) -> Self {
        let access = access::Access::new(client, config.clone());
        Self { config, runtime, shown, metrics, machine, access, rates: rates::Rates::default() }
    }

    /// Serves until cancelled; open sessions end with it.
    ///
    /// # Errors
    /// The port is taken, or the certificate cannot be used.
    pub async fn run(self, cancel: CancellationToken) -> anyhow::Result<()> {
        let Some(tls) = &self.config.tls else {
            tracing::warn!("no serving certificate: the kubelet's server stays off; logs and exec do not work");
            cancel.cancelled().await;
            return Ok(());
        };
        let acceptor = TlsAcceptor::from(Arc::new(identity::server_config(tls)?));
        let address = SocketAddr::new(self.config.address, self.config.port);
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        let server = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // the semaphore is never closed
            let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
            let accepted = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => {
                    // else a command's status would wait until its output is acknowledged
                    let _ = stream.set_nodelay(true);
                    stream
                }
                Err(error) => {
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (server, acceptor, stop) = (server.clone(), acceptor.clone(), cancel.clone());
            tokio::spawn(async move {
                stop.run_until_cancelled(server.connection(acceptor, stream)).await;
                drop(slot);
            });
        }
    }

    async fn connection(self: Arc<Self>, acceptor: TlsAcceptor, stream: TcpStream) {
        let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!("TLS handshake: {error}"),
            Err(_) => return tracing::debug!("TLS handshake: it took too long"),
        };
        let user = identity::of_certificates(stream.get_ref().1.peer_certificates());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (server, user) = (self.clone(), user.clone());
            async move { Ok::<Response<Body>, Infallible>(server.answer(request, user).await) }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
            tracing::debug!("serving a connection: {error}");
        }
    }

    async fn answer(&self, request: Request<Incoming>, certificate: Option<identity::User>) -> Answer {
        let Some(user) = self.access.authenticate(request.headers(), certificate).await else {
            return answer::text(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        if let Err(refusal) = self.access.authorize(&user, request.method(), request.uri().path()).await {
            return refusal;
        }
        let Some(route) = Route::of(request.uri()) else {
            return answer::text(StatusCode::NOT_FOUND, "404 page not found");
        };
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        match route {
            Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) => self.session(request, route).await,
            Route::Run(_) if *request.method() == Method::POST => self.run_command(request.uri(), route).await,
            Route::Checkpoint(of) if *request.method() == Method::POST => self.checkpoint(request.uri(), &of).await,
            Route::Checkpoint(_) => answer::text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
            _ if !reading => answer::text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
            Route::ContainerLogs(of) => self.container_logs(request.uri(), &of).await,
            other => self.plain(other).await,
        }
    }

    async fn plain(&self, route: Route) -> Answer {
        match route {
            Route::Healthz => answer::text(StatusCode::OK, "ok"),
            Route::Pods => answer::json(&self.pod_list()),
            Route::Configz => answer::json(&self.configz()),
            Route::Metrics => answer::metrics(self.metrics.encode()),
            Route::Summary => self.summary().await,
            Route::ResourceMetrics => self.resource_metrics().await,
            Route::CadvisorMetrics => self.cadvisor_metrics().await,
            Route::ProbeMetrics => answer::metrics(probe_lines(&self.metrics.encode())),
            Route::NodeLogs(path) => logs::node_log(&path),
            _ => answer::text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    fn pod_list(&self) -> serde_json::Value {
        let pods: Vec<_> = self.shown.list();
        let items: Vec<&k8s_openapi::api::core::v1::Pod> = pods.iter().map(AsRef::as_ref).collect();
        serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    fn configz(&self) -> serde_json::Value {
        let config = &self.config;
        serde_json::json!({"kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "staticPodPath": config.static_pod_path,
            "address": config.address,
            "port": config.port,
            "clusterDNS": config.cluster_dns,
            "clusterDomain": config.cluster_domain,
            "cgroupRoot": config.cgroup_root,
            "cgroupsPerQOS": config.cgroups_per_qos,
            "podPidsLimit": config.pod_pids_limit.unwrap_or(-1),
            "maxPods": config.max_pods,
            "containerLogMaxSize": config.container_log_max_size.to_string(),
            "containerLogMaxFiles": config.container_log_max_files,
            "imageGCHighThresholdPercent": config.image_gc_high,
            "imageGCLowThresholdPercent": config.image_gc_low,
        }})
    }
}

/// The lines of the probes' family, with its head.
fn probe_lines(all: &str) -> String {
    all.lines()
        .filter(|line| line.contains("prober_probe") || line.starts_with("# EOF"))
        .map(|line| format!("{line}\n"))
        .collect()
}
