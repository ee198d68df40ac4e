//! The whole proxy under upstream's API server. `KUBE_APISERVER` names its binary; `etcd` and `openssl` are on the path.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use pintle_daemon::metrics::Metrics;
use pintle_proxy::Config;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::network::{NODE, Network, inside, possible, serve, tcp};

const API: &str = "https://127.0.0.1:6443";
const TOKEN: &str = "of-this-test";

/// Processes that end with this value.
struct ControlPlane(Vec<Child>);

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(network: &Network, arguments: &[&str]) -> Child {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.node()]).args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starting a process")
}

fn control_plane(network: &Network, apiserver: &str, dir: &Path) -> ControlPlane {
    let path = |name: &str| dir.join(name).display().to_string();
    let (key, public) = (path("sa.key"), path("sa.pub"));
    for arguments in [vec!["genrsa", "-out", &key, "2048"], vec!["rsa", "-in", &key, "-pubout", "-out", &public]] {
        let status = Command::new("openssl").args(arguments).stderr(Stdio::null()).status().expect("running openssl");
        assert!(status.success());
    }
    let tokens = path("tokens.csv");
    std::fs::write(&tokens, format!("{TOKEN},tester,1,system:masters\n")).expect("writing the tokens");
    let etcd = spawn(network, &["etcd", "--data-dir", &path("etcd"), "--unsafe-no-fsync"]);
    let flags = [
        "--etcd-servers=http://127.0.0.1:2379".to_string(),
        format!("--cert-dir={}", path("certs")),
        format!("--service-account-key-file={public}"),
        format!("--service-account-signing-key-file={key}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_string(),
        format!("--token-auth-file={tokens}"),
        "--service-cluster-ip-range=10.96.0.0/12".to_string(),
        format!("--advertise-address={NODE}"),
    ];
    let mut arguments = vec![apiserver];
    arguments.extend(flags.iter().map(String::as_str));
    ControlPlane(vec![etcd, spawn(network, &arguments)])
}

async fn client() -> kube::Client {
    let mut config = kube::Config::new(API.parse().expect("an address"));
    config.accept_invalid_certs = true;
    config.auth_info.token = Some(TOKEN.to_string().into());
    let client = kube::Client::try_from(config).expect("a client");
    let answers = async || client.apiserver_version().await.inspect_err(|error| eprintln!("{error}")).is_ok();
    eventually("the API server", answers).await;
    client
}

async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn object<K: serde::de::DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("an object")
}

fn slice(addresses: &[&str]) -> EndpointSlice {
    let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [a], "nodeName": "node"})).collect();
    object(json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints}))
}

async fn answers(namespace: &str, address: &str, port: u16, server: &str) {
    let what = format!("{server} at {address}:{port}");
    let connect = || tcp(namespace, address, port).is_ok_and(|answer| answer.server == server);
    eventually(&what, async || tokio::task::block_in_place(connect)).await;
}

async fn page(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream =
        tokio::net::TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("connecting");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asking");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}

async fn resolves(namespace: &str, name: &str) {
    let look_up = || {
        let output = Command::new("ip")
            .args(["netns", "exec", namespace, "python3", "-c"])
            .arg(format!(
                "import socket,struct\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(1)\n\
                 q=b''.join(bytes([len(l)])+l.encode() for l in '{name}'.split('.'))+b'\\0'\n\
                 s.sendto(struct.pack('>6H',1,256,1,0,0,0)+q+struct.pack('>2H',1,1),('10.96.0.10',53))\n\
                 print(struct.unpack('>6H',s.recv(512)[:12])[3])"
            ))
            .output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "1")
    };
    eventually(name, async || tokio::task::block_in_place(look_up)).await;
}

async fn story(network: &Network, pod: &str) {
    let client = client().await;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let nodes: Api<Node> = Api::all(client.clone());
    let status = json!({"addresses": [{"type": "InternalIP", "address": NODE}]});
    let node = object(json!({"metadata": {"name": "node"}, "status": status}));
    nodes.create(&PostParams::default(), &node).await.expect("the Node");
    eventually("the default Service", async || services.get("kubernetes").await.is_ok()).await;

    let config = || Config {
        node_name: "node".into(),
        cluster_cidr: "10.244.0.0/16".into(),
        cluster_dns: "10.96.0.10".parse().ok(),
        ..Config::default()
    };
    let (metrics, cancel) = (Metrics::default(), CancellationToken::new());
    let proxy = tokio::spawn(pintle_proxy::run(client.clone(), config(), metrics, cancel.clone()));

    let web = object(json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort",
        "ports": [{"port": 80, "nodePort": 30080}], "clusterIP": "10.96.0.50"}}));
    services.create(&PostParams::default(), &web).await.expect("the Service");
    slices.create(&PostParams::default(), &slice(&["10.244.0.2"])).await.expect("the EndpointSlice");
    answers(pod, "10.96.0.50", 80, "pod2").await;
    answers(&network.outside(), NODE, 30080, "pod2").await;
    resolves(pod, "web.default.svc.cluster.local").await;
    assert!(page(10256, "/healthz").await.starts_with("HTTP/1.1 200"));
    let metrics = page(10249, "/metrics").await;
    assert!(metrics.contains("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"), "{metrics}");

    let patch = Patch::Merge(json!({"endpoints": [{"addresses": ["10.244.0.3"], "nodeName": "node"}]}));
    slices.patch("web-1", &PatchParams::default(), &patch).await.expect("the change");
    answers(pod, "10.96.0.50", 80, "pod3").await;

    // stopped, the rules stay; what changed meanwhile is made up for at the next start
    cancel.cancel();
    proxy.await.expect("the task").expect("a clean end");
    answers(pod, "10.96.0.50", 80, "pod3").await;
    services.delete("web", &DeleteParams::default()).await.expect("the deletion");
    let cancel = CancellationToken::new();
    let proxy = tokio::spawn(pintle_proxy::run(client, config(), Metrics::default(), cancel.clone()));
    eventually("the end of the Service", async || {
        tokio::task::block_in_place(|| tcp(&network.outside(), NODE, 30080).is_err())
    })
    .await;
    cancel.cancel();
    proxy.await.expect("the task").expect("a clean end");
}

#[test]
fn our_proxy_serves_upstreams_api() {
    let Ok(apiserver) = std::env::var("KUBE_APISERVER") else {
        eprintln!("skipped: KUBE_APISERVER names no kube-apiserver");
        return;
    };
    if !possible() {
        return;
    }
    let mut network = Network::new();
    network.add_servers([2, 3]);
    let pod = network.add_pod(9);
    serve(&network.outside(), "world", 8080);
    let dir = tempfile::tempdir().expect("a folder");
    let _processes = control_plane(&network, &apiserver, dir.path());
    inside(&network.node(), || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(story(&network, &pod));
    });
}
