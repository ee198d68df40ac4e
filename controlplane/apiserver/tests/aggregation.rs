//! An API that another server has: one of the test's own, over TLS, which knows this server by the ConfigMap that real ones
//! read.
//!
//! Must not know: anything but the server's public interface.

mod server;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use pintle_apiserver::auth::UserInfo;
use pintle_pki::{Authority, Leaf};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use server::Running;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const NAME: &str = "v1.harbour.example.com";
const ROOT: &str = "/apis/harbour.example.com/v1";

/// Has boats. Whoever shows no certificate of the front proxy is not spoken to.
struct Harbour {
    port: u16,
    bundle: String,
}

impl Harbour {
    async fn open(client: kube::Client) -> Self {
        let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
        let told = maps.get("extension-apiserver-authentication").await.unwrap().data.unwrap();
        assert_eq!(told["requestheader-allowed-names"], "[\"front-proxy-client\"]");
        let trusted = CertificateDer::from_pem_slice(told["requestheader-client-ca-file"].as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted).unwrap();
        let authority = Authority::create("harbour").unwrap();
        let (chain, key) =
            authority.issue(&Leaf::server("boats", &["boats.default.svc".to_owned()], &[])).unwrap().parse().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(async |it| Ok::<_, Infallible>(answer(it)));
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = served.await;
                });
            }
        });
        Self { port, bundle: STANDARD.encode(authority.certificate_pem()) }
    }

    /// The Service leads to this machine, by name: an endpoint may not be on loopback.
    async fn register(&self, client: &kube::Client) {
        let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(client.clone(), "default");
        let service = json!({
            "metadata": { "name": "boats" }, "spec": { "type": "ExternalName", "externalName": "localhost" },
        });
        services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
        let api_service = json!({
            "metadata": { "name": NAME },
            "spec": {
                "group": "harbour.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 15,
                "caBundle": self.bundle, "service": { "namespace": "default", "name": "boats", "port": self.port },
            },
        });
        let all: Api<APIService> = Api::all(client.clone());
        all.create(&PostParams::default(), &serde_json::from_value(api_service).unwrap()).await.unwrap();
    }
}

fn answer(mut request: Request<Incoming>) -> Response<BoxBody<bytes::Bytes, Infallible>> {
    let full = |value: Value| Full::from(value.to_string()).boxed();
    let path = request.uri().path().to_owned();
    match path.as_str() {
        ROOT => Response::new(full(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "harbour.example.com/v1",
            "resources": [{ "name": "boats", "singularName": "boat", "namespaced": false, "kind": "Boat", "verbs": ["get", "list", "watch"] }],
        }))),
        "/openapi/v3" => Response::new(full(json!({ "paths": {
            "apis/harbour.example.com/v1": { "serverRelativeURL": "/openapi/v3/apis/harbour.example.com/v1?hash=1" } } }))),
        "/openapi/v3/apis/harbour.example.com/v1" => {
            Response::new(full(json!({ "openapi": "3.0.0", "title": "boats" })))
        }
        "/openapi/v2" => Response::new(full(json!({
            "paths": { "/apis/harbour.example.com/v1/boats": { "get": {} } }, "definitions": {} }))),
        _ if path.ends_with("/boats") && request.uri().query().is_some_and(|it| it.contains("watch")) => {
            // what comes first is sent at once, though nothing follows
            let first = futures::stream::iter([Ok(Frame::data(bytes::Bytes::from("{\"type\":\"ADDED\"}\n")))]);
            Response::new(BodyExt::boxed(StreamBody::new(first.chain(futures::stream::pending()))))
        }
        _ if path.ends_with("/exec") => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.unwrap());
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
            response.body(Full::default().boxed()).unwrap()
        }
        _ if path.ends_with("/moved") => {
            Response::builder().status(302).header("location", "/").body(Full::default().boxed()).unwrap()
        }
        _ if path.starts_with(ROOT) => {
            let said = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()))));
            Response::new(full(Value::Object(said.collect())))
        }
        _ => Response::builder().status(404).body(Full::default().boxed()).unwrap(),
    }
}

fn get(path: &str) -> Request<Vec<u8>> {
    Request::get(path).body(vec![]).unwrap()
}

async fn becomes(client: &kube::Client, status: &'static str) -> APIService {
    let all: Api<APIService> = Api::all(client.clone());
    let is = move |it: Option<&APIService>| {
        let conditions = it.and_then(|it| it.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|it| it.type_ == "Available" && it.status == status))
    };
    await_condition(all, NAME, is).await.unwrap().unwrap()
}

fn reason(it: &APIService) -> String {
    it.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].reason.clone().unwrap()
}

#[tokio::test]
async fn another_servers_api_is_part_of_this_one() {
    let running = Running::start().await;
    let admin = running.admin();
    let harbour = Harbour::open(admin.clone()).await;
    harbour.register(&admin).await;
    assert_eq!(reason(&becomes(&admin, "True").await), "Passed");

    let boat = admin.request::<Value>(
        Request::get(format!("{ROOT}/boats/argo")).header("x-remote-user", "forged").body(vec![]).unwrap(),
    );
    let boat = boat.await.unwrap();
    assert_eq!((&boat["x-remote-user"], &boat["x-remote-group"]), (&json!("admin"), &json!("system:authenticated")));

    let nobody = running.server.client(UserInfo::new("nobody", &[]));
    let refused = nobody.request::<Value>(get(&format!("{ROOT}/boats/argo"))).await.unwrap_err();
    assert!(refused.to_string().contains("User \"nobody\" cannot get resource \"boats\""), "{refused}");

    let moved = admin.request::<Value>(get(&format!("{ROOT}/moved"))).await.unwrap_err();
    assert!(moved.to_string().contains("attempted to redirect this request"), "{moved}");

    let lines = admin.request_stream(get(&format!("{ROOT}/boats?watch=true"))).await.unwrap();
    let first = futures::AsyncBufReadExt::lines(lines).next().await.unwrap().unwrap();
    assert_eq!(first, "{\"type\":\"ADDED\"}");
}

#[tokio::test]
async fn connections_become_the_two_ends_own() {
    let running = Running::start().await;
    let admin = running.admin();
    Harbour::open(admin.clone()).await.register(&admin).await;
    becomes(&admin, "True").await;
    let (near, far) = tokio::io::duplex(1024);
    let cancel = tokio_util::sync::CancellationToken::new();
    let user = UserInfo::new("admin", &["system:masters"]);
    tokio::spawn(running.server.clone().serve_stream(far, user, cancel));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(format!("{ROOT}/boats/argo/exec"))
        .header("host", "h")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Full::<bytes::Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ahoy").await.unwrap();
    let mut echo = String::new();
    stream.read_to_string(&mut echo).await.unwrap();
    assert_eq!(echo, "ahoy");
}

#[tokio::test]
async fn it_is_discovered_and_described() {
    let running = Running::start().await;
    let admin = running.admin();
    Harbour::open(admin.clone()).await.register(&admin).await;
    becomes(&admin, "True").await;
    let list = admin.request::<Value>(get(ROOT)).await.unwrap();
    assert_eq!(list["resources"][0]["name"], "boats");
    let groups = admin.list_api_groups().await.unwrap().groups;
    let names: Vec<&str> = groups.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("apiregistration.k8s.io", "harbour.example.com"));
    let group = admin.request::<Value>(get("/apis/harbour.example.com")).await.unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "harbour.example.com/v1");

    let index = admin.request::<Value>(get("/openapi/v3")).await.unwrap();
    let url = index["paths"]["apis/harbour.example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, "/openapi/v3/apis/harbour.example.com/v1?hash=1");
    let document = admin.request::<Value>(get(url)).await.unwrap();
    assert_eq!(document["title"], "boats");
    let v2 = admin.request::<Value>(get("/openapi/v2")).await.unwrap();
    assert!(v2["paths"].get("/apis/harbour.example.com/v1/boats").is_some());
    let listed = aggregated(&admin).await;
    assert_eq!(listed["freshness"], "Current");
    assert_eq!(listed["resources"][0]["responseKind"]["kind"], "Boat");
}

/// The one version in the aggregated form of discovery.
async fn aggregated(client: &kube::Client) -> Value {
    let request = Request::get("/apis")
        .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        .body(vec![])
        .unwrap();
    let all = client.request::<Value>(request).await.unwrap();
    let mut groups = all["items"].as_array().unwrap().iter();
    groups.find(|it| it["metadata"]["name"] == "harbour.example.com").unwrap()["versions"][0].clone()
}

#[tokio::test]
async fn what_cannot_be_reached_is_unavailable_and_says_why() {
    let running = Running::start().await;
    let admin = running.admin();
    let harbour = Harbour::open(admin.clone()).await;
    harbour.register(&admin).await;
    becomes(&admin, "True").await;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(admin.clone(), "default");
    services.delete("boats", &DeleteParams::default()).await.unwrap();
    assert_eq!(reason(&becomes(&admin, "False").await), "ServiceNotFound");
    let metrics = admin.request_text(get("/metrics")).await.unwrap();
    assert!(metrics.contains("aggregator_unavailable_apiservice{name=\"v1.harbour.example.com\"} 1"), "{metrics}");
    let response = admin.send(get(&format!("{ROOT}/boats")).map(kube::client::Body::from)).await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "service unavailable\n");

    let all: Api<APIService> = Api::all(admin.clone());
    let bundle = STANDARD.encode(Authority::create("another").unwrap().certificate_pem());
    let distrust = json!({ "spec": { "caBundle": bundle } });
    all.patch(NAME, &PatchParams::default(), &Patch::Merge(distrust)).await.unwrap();
    let service = json!({
        "metadata": { "name": "boats" }, "spec": { "type": "ExternalName", "externalName": "localhost" },
    });
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let distrusted = |it: Option<&APIService>| it.is_some_and(|it| reason(it) == "FailedDiscoveryCheck");
    let it = await_condition(all.clone(), NAME, distrusted).await.unwrap().unwrap();
    let message = it.status.unwrap().conditions.unwrap()[0].message.clone().unwrap();
    let begins = format!("failing or missing response from https://localhost:{}{ROOT}: Get ", harbour.port);
    assert!(message.starts_with(&begins) && message.contains("tls: "), "{message}");

    all.delete(NAME, &DeleteParams::default()).await.unwrap();
    await_condition(all, NAME, conditions::is_deleted(it.metadata.uid.as_deref().unwrap())).await.unwrap();
}

#[tokio::test]
async fn this_servers_own_groups_are_registered() {
    let running = Running::start().await;
    let all: Api<APIService> = Api::all(running.admin());
    let core = all.get("v1.").await.unwrap();
    assert_eq!(core.metadata.labels.as_ref().unwrap()["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(reason(&core), "Local");
    let bad = json!({ "metadata": { "name": "x" },
        "spec": { "group": "a.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1 } });
    let refused = all.create(&PostParams::default(), &serde_json::from_value(bad).unwrap()).await.unwrap_err();
    let why = "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.example.com\"";
    assert!(refused.to_string().contains(why), "{refused}");
}

#[tokio::test]
async fn what_a_definition_has_is_registered_as_long_as_it_is_there() {
    let running = Running::start().await;
    let admin = running.admin();
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    let definition = json!({
        "metadata": { "name": "boats.harbour.example.com" },
        "spec": {
            "group": "harbour.example.com", "scope": "Namespaced", "names": { "plural": "boats", "kind": "Boat" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    });
    definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    let all: Api<APIService> = Api::all(admin.clone());
    let priority = |it: Option<&APIService>| it.is_some_and(|it| it.spec.as_ref().unwrap().version_priority == 100);
    let made = await_condition(all.clone(), NAME, priority).await.unwrap().unwrap();
    assert_eq!(made.metadata.labels.as_ref().unwrap()["kube-aggregator.kubernetes.io/automanaged"], "true");
    let changed = json!({ "spec": { "versionPriority": 5 } });
    all.patch(NAME, &PatchParams::default(), &Patch::Merge(changed)).await.unwrap();
    await_condition(all.clone(), NAME, priority).await.unwrap();
    definitions.delete("boats.harbour.example.com", &DeleteParams::default()).await.unwrap();
    await_condition(all, NAME, conditions::is_deleted(made.metadata.uid.as_deref().unwrap())).await.unwrap();
}
