//! Custom resources in two versions, between which a webhook of the test converts.
//!
//! Must not know: anything but the server's public interface.

mod server;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{AsyncBufReadExt as _, StreamExt as _};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pintle_pki::{Authority, Leaf};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use server::Running;
use tokio::net::TcpListener;

/// A webhook on loopback: `hostPort` of v1 is `host` and `port` of v2.
struct Converter {
    url: String,
    bundle: String,
    calls: Arc<AtomicUsize>,
}

impl Converter {
    async fn start() -> Self {
        let authority = Authority::create("converter").unwrap();
        let pair = authority.issue(&Leaf::server("converter", &[], &[Ipv4Addr::LOCALHOST.into()])).unwrap();
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("https://{}/convert", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, calls) = (acceptor.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| answer(request, calls.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, bundle: STANDARD.encode(authority.certificate_pem()), calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: Arc<AtomicUsize>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    calls.fetch_add(1, Ordering::SeqCst);
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&bytes).unwrap();
    let request = &review["request"];
    let converted: Vec<Value> = request["objects"].as_array().unwrap().iter().map(|it| turned(it, request)).collect();
    let answer = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
        "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": converted } });
    Ok(Response::new(Full::from(answer.to_string())))
}

fn turned(object: &Value, request: &Value) -> Value {
    let mut object = object.clone();
    let fields = object.as_object_mut().unwrap();
    if request["desiredAPIVersion"] == "example.com/v2" {
        let both = fields.remove("hostPort").unwrap();
        let (host, port) = both.as_str().unwrap().split_once(':').unwrap();
        fields.insert("host".into(), host.into());
        fields.insert("port".into(), port.into());
    } else {
        let (host, port) = (fields.remove("host").unwrap(), fields.remove("port").unwrap());
        fields.insert("hostPort".into(), format!("{}:{}", host.as_str().unwrap(), port.as_str().unwrap()).into());
    }
    object["apiVersion"] = request["desiredAPIVersion"].clone();
    object
}

async fn call(client: &kube::Client, method: Method, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let media_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", media_type);
    client.request(request.body(body).unwrap()).await.map_err(|error| error.to_string())
}

fn definition(converter: &Converter) -> Value {
    let version = |name: &str, fields: &[&str]| {
        let properties: Value = fields.iter().map(|field| ((*field).to_owned(), json!({ "type": "string" }))).collect();
        let selectable: Vec<Value> = fields.iter().map(|field| json!({ "jsonPath": format!(".{field}") })).collect();
        json!({ "name": name, "served": true, "storage": name == "v1", "selectableFields": selectable,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": properties } } })
    };
    let client = json!({ "url": converter.url, "caBundle": converter.bundle });
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "places.example.com" },
        "spec": { "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "places", "singular": "place", "kind": "Place", "listKind": "PlaceList" },
            "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
            "conversion": { "strategy": "Webhook",
                "webhook": { "clientConfig": client, "conversionReviewVersions": ["v1"] } } } })
}

const V1: &str = "/apis/example.com/v1/namespaces/default/places";
const V2: &str = "/apis/example.com/v2/namespaces/default/places";

async fn start() -> (Running, Converter, kube::Client) {
    let (running, converter) = (Running::start().await, Converter::start().await);
    let client = running.admin();
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    call(&client, Method::POST, definitions, &definition(&converter)).await.unwrap();
    let served = async {
        while call(&client, Method::GET, V2, &Value::Null).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), served).await.expect("the definition is served");
    (running, converter, client)
}

fn place(version: &str, name: &str, fields: Value) -> Value {
    let mut object = fields;
    object["apiVersion"] = format!("example.com/{version}").into();
    object["kind"] = "Place".into();
    object["metadata"] = json!({ "name": name });
    object
}

#[tokio::test]
async fn every_version_reads_and_writes_the_same_objects() {
    let (_running, converter, client) = start().await;
    let made = call(&client, Method::POST, V2, &place("v2", "a", json!({ "host": "h1", "port": "80" }))).await.unwrap();
    assert_eq!((&made["host"], &made["apiVersion"]), (&json!("h1"), &json!("example.com/v2")));
    let stored = call(&client, Method::GET, &format!("{V1}/a"), &Value::Null).await.unwrap();
    assert_eq!((&stored["hostPort"], &stored["host"]), (&json!("h1:80"), &Value::Null));
    assert_eq!(stored["metadata"]["uid"], made["metadata"]["uid"]);
    call(&client, Method::POST, V1, &place("v1", "b", json!({ "hostPort": "h2:81" }))).await.unwrap();
    let patched = call(&client, Method::PATCH, &format!("{V2}/b"), &json!({ "port": "82" })).await.unwrap();
    assert_eq!((&patched["host"], &patched["port"]), (&json!("h2"), &json!("82")));
    let before = converter.calls();
    let list = call(&client, Method::GET, V2, &Value::Null).await.unwrap();
    let hosts: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|it| &it["host"]).collect();
    assert_eq!((hosts, &list["apiVersion"]), (vec![&json!("h1"), &json!("h2")], &json!("example.com/v2")));
    assert_eq!(converter.calls(), before, "what was converted is not converted again");
    let all = call(&client, Method::GET, V1, &Value::Null).await.unwrap();
    assert_eq!(all["items"][1]["hostPort"], "h2:82");
}

#[tokio::test]
async fn lists_and_watches_select_by_the_fields_of_their_version() {
    let (_running, _converter, client) = start().await;
    let request = Request::get(format!("{V2}?watch=true&fieldSelector=host%3Dh1&timeoutSeconds=20")).body(Vec::new());
    let mut lines = client.request_stream(request.unwrap()).await.unwrap().lines();
    for (name, at) in [("a", "h1:80"), ("b", "h2:80"), ("c", "h1:81")] {
        call(&client, Method::POST, V1, &place("v1", name, json!({ "hostPort": at }))).await.unwrap();
    }
    for name in ["a", "c"] {
        let event: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!(name)));
        assert_eq!(event["object"]["host"], "h1");
    }
    let names = async |path: String| {
        let list = call(&client, Method::GET, &path, &Value::Null).await.unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(format!("{V2}?fieldSelector=host%3Dh1,port%3D81")).await, ["c"]);
    assert_eq!(names(format!("{V1}?fieldSelector=hostPort%3Dh2:80")).await, ["b"]);
}

#[tokio::test]
async fn what_cannot_be_converted_cannot_be_read_in_another_version() {
    let (_running, _converter, client) = start().await;
    call(&client, Method::POST, V1, &place("v1", "a", json!({ "hostPort": "h1:80" }))).await.unwrap();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/places.example.com";
    let nowhere =
        json!({ "spec": { "conversion": { "webhook": { "clientConfig": { "url": "https://127.0.0.1:1/" } } } } });
    call(&client, Method::PATCH, path, &nowhere).await.unwrap();
    let refused = async {
        loop {
            match call(&client, Method::GET, &format!("{V2}/a"), &Value::Null).await {
                Err(error) if error.contains("conversion webhook for example.com/v1, Kind=Place failed: Post ") => {
                    return;
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("the webhook is not there");
    assert_eq!(call(&client, Method::GET, &format!("{V1}/a"), &Value::Null).await.unwrap()["hostPort"], "h1:80");
}
