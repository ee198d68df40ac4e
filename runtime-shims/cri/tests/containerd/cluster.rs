//! As much of an API server as `kubectl exec`, `attach`, `cp` and `port-forward` need, in front of the bridge.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pintle_cri::Runtime;
use pintle_cri::streaming::bridge::{self, Session, Streams};
use pintle_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

#[derive(Clone)]
struct Pod {
    runtime: Runtime,
    sandbox: String,
    container: String,
}

/// Serves one pod, `default/web`; the address.
pub async fn serve(runtime: Runtime, sandbox: String, container: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pod = Pod { runtime, sandbox, container };
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let pod = pod.clone();
            let service = service_fn(move |request| answer(pod.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { http.serve_connection(TokioIo::new(socket), service).with_upgrades().await });
        }
    });
    address
}

/// kubectl against that address.
pub fn kubectl(address: SocketAddr, home: &Path) -> Command {
    let mut command = Command::new("kubectl");
    command.arg("--server").arg(format!("http://{address}")).env("HOME", home).env("KUBECONFIG", home.join("none"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn answer(pod: Pod, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.strip_prefix("/api/v1/namespaces/default/pods/web") {
        Some("/exec") => exec(pod, request).await,
        Some("/attach") => attach(pod, request).await,
        Some("/portforward") => port_forward(pod, request).await,
        _ => document(&path),
    })
}

async fn exec(pod: Pod, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (streams, cmd) = (streams(&request), query(&request, "command"));
    let Streams { stdin, stdout, stderr, tty } = streams;
    let exec = ExecRequest { container_id: pod.container, cmd, tty, stdin, stdout, stderr: stderr && !tty };
    let url = pod.runtime.runtime.clone().exec(exec).await.unwrap().into_inner().url;
    bridge::serve(request, &url, Session::Command(streams)).await
}

async fn attach(pod: Pod, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let streams = streams(&request);
    let Streams { stdin, stdout, stderr, tty } = streams;
    let attach = AttachRequest { container_id: pod.container, tty, stdin, stdout, stderr: stderr && !tty };
    let url = pod.runtime.runtime.clone().attach(attach).await.unwrap().into_inner().url;
    bridge::serve(request, &url, Session::Command(streams)).await
}

async fn port_forward(pod: Pod, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let ports: Vec<u16> = query(&request, "ports").iter().map(|port| port.parse().unwrap()).collect();
    let asked =
        PortForwardRequest { pod_sandbox_id: pod.sandbox, port: ports.iter().map(|port| (*port).into()).collect() };
    let url = pod.runtime.runtime.clone().port_forward(asked).await.unwrap().into_inner().url;
    bridge::serve(request, &url, Session::PortForward { ports }).await
}

fn streams(request: &Request<Incoming>) -> Streams {
    let wants = |name: &str| query(request, name).iter().any(|value| value == "true");
    Streams { stdin: wants("stdin"), stdout: wants("stdout"), stderr: wants("stderr"), tty: wants("tty") }
}

fn query(request: &Request<Incoming>, name: &str) -> Vec<String> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = text.replace('+', " ").into_bytes();
    while let Some(at) = bytes.iter().position(|byte| *byte == b'%') {
        let hex = std::str::from_utf8(&bytes[at + 1..at + 3]).unwrap();
        let byte = u8::from_str_radix(hex, 16).unwrap();
        bytes.splice(at..at + 3, [if byte == b'%' { 0 } else { byte }]);
    }
    String::from_utf8(bytes).unwrap().replace('\0', "%")
}

fn document(path: &str) -> Response<Full<Bytes>> {
    let pods = json!({ "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "shortNames": ["po"],
        "verbs": ["get", "list"] });
    let document = match path {
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
        "/apis" => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] }),
        "/api/v1" => json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": [pods] }),
        "/api/v1/namespaces/default/pods/web" => pod_document(),
        _ => Value::Null,
    };
    let found = !document.is_null();
    let body = if found {
        document
    } else {
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404 })
    };
    let status = if found { 200 } else { 404 };
    let builder = Response::builder().status(status).header("content-type", "application/json");
    builder.body(Full::from(body.to_string())).unwrap()
}

fn pod_document() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": "web", "namespace": "default", "uid": "web" },
        "spec": { "containers": [{ "name": "main", "image": "shell", "stdin": true }] },
        "status": { "phase": "Running" },
    })
}
