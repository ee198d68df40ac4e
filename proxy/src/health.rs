//! What the proxy answers over HTTP: its own health, its metrics, and the health check node ports of load balancers.
//!
//! Must not know: rules.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::{Mutex, RwLock};
use pintle_daemon::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::model::{Model, ServiceName};

const MAX_CONNECTIONS: usize = 64;
/// For a request to arrive, and for a connection to be used again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The proxy's own health.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_updated: Option<jiff::Timestamp>,
    failing: bool,
    node_going: bool,
}

impl Health {
    /// The rules were made what they should be, or not.
    pub fn synced(&self, ok: bool) {
        let mut state = self.0.lock();
        state.failing = !ok;
        if ok {
            state.last_updated = Some(jiff::Timestamp::now());
        }
    }

    /// The node is being deleted: balancers should look elsewhere.
    pub fn node_going(&self, going: bool) {
        self.0.lock().node_going = going;
    }

    fn rules_are_right(&self) -> bool {
        let state = self.0.lock();
        state.last_updated.is_some() && !state.failing
    }

    fn page(&self, with_node: bool) -> Page {
        let eligible = !self.0.lock().node_going;
        let healthy = self.rules_are_right() && (eligible || !with_node);
        let last = self.0.lock().last_updated.map(|time| time.to_string()).unwrap_or_default();
        let body = serde_json::json!({"lastUpdated": last, "currentTime": jiff::Timestamp::now().to_string(),
            "nodeEligible": eligible});
        Page::json(healthy, &body)
    }
}

/// An answer.
pub struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Page {
    fn json(good: bool, body: &serde_json::Value) -> Self {
        let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, content_type: "application/json", body: body.to_string() }
    }

    fn text(body: String) -> Self {
        Self { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", body }
    }

    fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::text("404 page not found\n".to_string()) }
    }
}

/// `/healthz` and `/livez` at upstream's port 10256.
pub async fn serve_health(address: SocketAddr, health: Arc<Health>) -> anyhow::Result<JoinHandle<()>> {
    serve(address, move |path| match path {
        "/healthz" => health.page(true),
        "/livez" => health.page(false),
        _ => Page::not_found(),
    })
    .await
}

/// `/metrics`, `/healthz` and `/proxyMode` at upstream's port 10249.
pub async fn serve_metrics(address: SocketAddr, metrics: Metrics) -> anyhow::Result<JoinHandle<()>> {
    serve(address, move |path| match path {
        "/metrics" => Page {
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ..Page::text(metrics.encode())
        },
        "/healthz" => Page::text("ok".to_string()),
        "/proxyMode" => Page::text("nftables".to_string()),
        _ => Page::not_found(),
    })
    .await
}

/// The listeners on health check node ports, by port.
pub struct HealthPorts {
    model: Arc<RwLock<Model>>,
    node: String,
    health: Arc<Health>,
    listening: HashMap<u16, (ServiceName, JoinHandle<()>)>,
}

impl HealthPorts {
    pub fn new(model: Arc<RwLock<Model>>, node: String, health: Arc<Health>) -> Self {
        Self { model, node, health, listening: HashMap::new() }
    }

    /// Listens for the Services that want it now, and no others.
    pub async fn update(&mut self) {
        let wanted: HashMap<u16, ServiceName> = {
            let model = self.model.read();
            let ports = model.services().filter_map(|(name, s)| Some((s.health_check_node_port?, name.clone())));
            ports.collect()
        };
        self.listening.retain(|port, (name, task)| {
            let kept = wanted.get(port) == Some(name) && !task.is_finished();
            if !kept {
                task.abort();
            }
            kept
        });
        for (port, name) in wanted {
            if self.listening.contains_key(&port) {
                continue;
            }
            let (model, node, health, own) = (self.model.clone(), self.node.clone(), self.health.clone(), name.clone());
            let page = move |_: &str| service_page(&model.read(), &node, &own, health.rules_are_right());
            match serve(SocketAddr::from(([0, 0, 0, 0], port)), page).await {
                Ok(task) => drop(self.listening.insert(port, (name, task))),
                Err(error) => tracing::warn!("the health check node port of {name}: {error:#}"),
            }
        }
    }
}

impl Drop for HealthPorts {
    fn drop(&mut self) {
        self.listening.values().for_each(|(_, task)| task.abort());
    }
}

fn service_page(model: &Model, node: &str, name: &ServiceName, healthy: bool) -> Page {
    let here = |e: &&crate::model::Endpoint| e.ready && e.node.as_deref() == Some(node);
    let mut addresses: Vec<_> =
        model.slices(name).flat_map(|slice| slice.endpoints.iter().filter(here).map(|e| e.address)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let body = serde_json::json!({"service": {"namespace": &*name.namespace, "name": &*name.name},
        "localEndpoints": addresses.len(), "serviceProxyHealthy": healthy});
    Page::json(healthy && !addresses.is_empty(), &body)
}

/// Serves pages by path until the task is aborted.
async fn serve(
    address: SocketAddr,
    page: impl Fn(&str) -> Page + Send + Sync + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let (page, connections) = (Arc::new(page), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    Ok(tokio::spawn(async move {
        while let Ok(permit) = connections.clone().acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let page = page.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(|request: Request<Incoming>| {
                    let response = respond(page(request.uri().path()));
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut server = http1::Builder::new();
                let server = server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                // a client that goes away is nobody's error
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }))
}

fn respond(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(page.content_type));
    response.headers_mut().insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::model::{Service, Slice};

    fn service(port: u16) -> Service {
        let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
            "externalTrafficPolicy": "Local", "healthCheckNodePort": port, "ports": [{"port": 80}]});
        Service::reduce(&serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).expect("a Service"))
    }

    fn slice(nodes: &[&str]) -> Slice {
        let endpoints: Vec<Value> = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| json!({"addresses": [format!("10.244.0.{n}")], "nodeName": node, "conditions": {"ready": true}}))
            .collect();
        let object = json!({"metadata": {}, "addressType": "IPv4", "ports": [], "endpoints": endpoints});
        Slice::reduce(&serde_json::from_value(object).expect("an EndpointSlice"))
    }

    /// Status line and body, as a balancer's check gets them.
    async fn check(port: u16) -> Option<(String, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n").await.expect("asking");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.lines().next().unwrap_or_default().to_string();
        Some((status, serde_json::from_str(body).expect("JSON")))
    }

    #[tokio::test]
    async fn balancers_learn_at_the_health_check_node_port_whether_this_node_has_endpoints() {
        let free = std::net::TcpListener::bind("0.0.0.0:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let name = ServiceName::new("shop", "web");
        let mut model = Model::default();
        model.set_service(name.clone(), service(free));
        model.set_slice(&name, "s", slice(&["here", "there", "here"]));
        let (model, health) = (Arc::new(RwLock::new(model)), Arc::new(Health::default()));
        health.synced(true);
        let mut ports = HealthPorts::new(model.clone(), "here".into(), health.clone());
        ports.update().await;
        let (status, body) = check(free).await.expect("listening");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let service = json!({"namespace": "shop", "name": "web"});
        assert_eq!(body, json!({"service": service, "localEndpoints": 2, "serviceProxyHealthy": true}));

        model.write().set_slice(&name, "s", slice(&["there"]));
        let (status, body) = check(free).await.expect("listening");
        assert_eq!((status.as_str(), &body["localEndpoints"]), ("HTTP/1.1 503 Service Unavailable", &json!(0)));

        model.write().set_slice(&name, "s", slice(&["here"]));
        health.synced(false);
        assert_eq!(check(free).await.expect("listening").0, "HTTP/1.1 503 Service Unavailable", "rules are not right");

        model.write().remove_service(&name);
        ports.update().await;
        while check(free).await.is_some() {
            tokio::task::yield_now().await;
        }
    }
}
