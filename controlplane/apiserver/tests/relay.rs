//! Requests for the insides of pods, services and nodes, as far as they come without anything running: where they would
//! go, and what is said where they cannot.
//!
//! Must not know: how a request is relayed.

mod server;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::Api;
use kube::client::Body;
use serde_json::json;
use server::Running;

async fn ask(client: &kube::Client, method: Method, path: &str) -> (Response<()>, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let (parts, body) = client.send(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

async fn message(client: &kube::Client, path: &str) -> (u16, String) {
    let (response, body) = ask(client, Method::GET, path).await;
    let status: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    (response.status().as_u16(), status["message"].as_str().unwrap_or_default().to_owned())
}

/// A pod `web` that says it runs at `address`, a Service `web` of which nothing is known yet.
async fn cluster(address: &str) -> (Running, kube::Client) {
    let running = Running::start().await;
    let client = running.admin();
    let namespace = json!({"metadata": {"name": "a"}});
    Api::<Namespace>::all(client.clone())
        .create(&Default::default(), &serde_json::from_value(namespace).unwrap())
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "a");
    let pod = json!({"metadata": {"name": "web"}, "spec": {
        "automountServiceAccountToken": false,
        "containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b"}],
    }});
    // as before the controller has made the service account
    let account = json!({"metadata": {"name": "default"}});
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), "a");
    accounts.create(&Default::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
    pods.create(&Default::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
    pods.patch_status("web", &Default::default(), &kube::api::Patch::Merge(status)).await.unwrap();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let services: Api<Service> = Api::namespaced(client.clone(), "a");
    services.create(&Default::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    (running, client)
}

#[tokio::test]
async fn a_proxy_without_its_slash_is_sent_there() {
    let (_running, client) = cluster("192.0.2.1").await;
    let path = "/api/v1/namespaces/a/pods/web/proxy";
    for method in [Method::GET, Method::HEAD] {
        let (response, _) = ask(&client, method, &format!("{path}?a=%20b")).await;
        assert_eq!(response.status().as_u16(), 301);
        assert_eq!(response.headers()["location"], format!("{path}/?a=%20b"));
    }
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let (_running, client) = cluster("127.0.0.1").await;
    let all = "/api/v1/namespaces/a";
    for (path, code, text) in [
        ("services/ftp:web:80/proxy/", 400, r#"invalid service request "ftp:web:80""#),
        ("pods/:80/proxy/", 400, r#"invalid pod request ":80""#),
        ("services/web:81/proxy/", 503, r#"no service port 81 found for service "web""#),
        ("services/none/proxy/", 404, r#"endpoints "none" not found"#),
        ("pods/web:80/proxy/", 400, "address not allowed"),
        ("pods/web/log", 400, "a container name must be specified for pod web, choose one of: [a b]"),
        ("pods/web/log?container=c", 400, "container c is not valid for pod web"),
        ("pods/web/exec?container=a&command=true", 400, "pod web does not have a host assigned"),
    ] {
        assert_eq!(message(&client, &format!("{all}/{path}")).await, (code, text.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_service_without_endpoints_is_unavailable() {
    let (_running, client) = cluster("192.0.2.1").await;
    let endpoints: Api<k8s_openapi::api::core::v1::Endpoints> = Api::namespaced(client.clone(), "a");
    let empty = json!({"metadata": {"name": "web"}});
    endpoints.create(&Default::default(), &serde_json::from_value(empty).unwrap()).await.unwrap();
    let said = message(&client, "/api/v1/namespaces/a/services/web/proxy/").await;
    assert_eq!(said, (503, r#"no endpoints available for service "web""#.to_owned()));
    // addresses that are no pod's are not reached on anybody's word
    let foreign = json!({"subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 80}]}]});
    endpoints.patch("web", &Default::default(), &kube::api::Patch::Merge(foreign)).await.unwrap();
    let said = message(&client, "/api/v1/namespaces/a/services/http:web:80/proxy/").await;
    assert_eq!(said, (503, r#"no endpoints available for service "http:web:80""#.to_owned()));
}

#[tokio::test]
async fn a_pod_without_a_node_has_no_logs() {
    let (_running, client) = cluster("192.0.2.1").await;
    let (response, body) = ask(&client, Method::GET, "/api/v1/namespaces/a/pods/web/log?container=a").await;
    assert_eq!((response.status().as_u16(), body.as_str()), (204, ""));
}

#[tokio::test]
async fn a_nodes_own_ports_are_not_reached_through_another_name_of_it() {
    let (_running, client) = cluster("192.0.2.1").await;
    let node =
        json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}});
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&Default::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let said = message(&client, "/api/v1/nodes/n:2379/proxy/").await;
    assert_eq!(said, (400, "address not allowed".to_owned()));
    let (response, _) = ask(&client, Method::GET, "/api/v1/nodes/n/proxy").await;
    assert_eq!(response.status().as_u16(), 301);
}
