//! Everything that is no resource: discovery, health, version, metrics.
//!
//! Must not know: how objects are kept.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response};
use pintle_api::aggregation::{discovery as others, openapi as merged};
use pintle_api::discovery;
use pintle_api::openapi::{self, gnostic};
use serde_json::{Value, json};

use crate::aggregation;
use crate::auth::UserInfo;
use crate::body::{Body, RequestBody};
use crate::negotiate::{self, Accepted};
use crate::render;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;

pub async fn serve(
    server: &Arc<ApiServer>,
    parts: Parts,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    body: RequestBody,
) -> Response<Body> {
    let described = info.path.trim_end_matches('/').strip_prefix("/openapi/v3/");
    match described.and_then(|document| server.aggregation.describes(document)) {
        Some(remote) => Box::pin(aggregation::serve(server, &remote, parts, info, user, body)).await,
        None => own(server, &parts, info, query),
    }
}

/// What this server says itself.
fn own(server: &ApiServer, parts: &Parts, info: &RequestInfo, query: &Query) -> Response<Body> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return render::nothing_here();
    }
    let accepted = negotiate::accepted_for_errors(&parts.headers, query);
    let path = info.path.trim_end_matches('/');
    match path {
        "/version" => render::value(200, &version(), Accepted { pretty: true, ..Accepted::default() }),
        "/metrics" => render::with_type(
            200,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            server.telemetry.text().into(),
        ),
        "" => render::value(200, &json!({ "paths": paths(server) }), accepted),
        "/.well-known/openid-configuration" => {
            render::with_type(200, "application/json", issuer(server).to_string().into())
        }
        "/openid/v1/jwks" => {
            let keys = server.authenticator.tokens.jwks();
            render::with_type(200, "application/jwk-set+json", keys.to_string().into())
        }
        "/openapi/v2" => openapi_v2(server, parts),
        "/openapi/v3" => render::value(200, &openapi_v3(server), Accepted::default()),
        "/api" | "/apis" => discover(server, parts, path, accepted),
        _ if path.starts_with("/openapi/v3/") => {
            match openapi::v3(path.trim_start_matches("/openapi/v3/"), &server.custom.all()) {
                Some(document) => render::value(200, &document, Accepted::default()),
                None => render::nothing_here(),
            }
        }
        _ if health(path).is_some() => healthy(server, path, query),
        _ if path.starts_with("/api/") || path.starts_with("/apis/") => match group(server, path) {
            Some(document) => render::value(200, &document, accepted),
            None => render::nothing_here(),
        },
        _ => render::nothing_here(),
    }
}

/// The one document of version 2: JSON, or gnostic's protobuf under both names that clients know it by.
fn openapi_v2(server: &ApiServer, parts: &Parts) -> Response<Body> {
    let custom = server.custom.all();
    let others: Vec<(String, Arc<Value>)> =
        server.aggregation.documents().filter_map(|(_, it)| it.v2.clone()).collect();
    let tags: String = others.iter().map(|(tag, _)| tag.as_str()).collect();
    let tag = format!("{:?}", openapi::v2_hash(&custom, &tags));
    let said = |name| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let mut response = match said(http::header::IF_NONE_MATCH).is_some_and(|known| known.contains(&tag)) {
        true => render::with_type(304, "application/json", Body::empty()),
        false => openapi_v2_as(said(http::header::ACCEPT).unwrap_or("*/*"), || {
            let mut document = openapi::v2(&custom);
            others.iter().for_each(|(_, part)| merged::merge(&mut document, part));
            document
        }),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(http::header::ETAG, tag);
    }
    response
}

fn openapi_v2_as(header: &str, document: impl Fn() -> Value) -> Response<Body> {
    const OLD_NAME: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    for clause in negotiate::clauses(header) {
        match clause.range.as_str() {
            "*/*" | "application/*" | "application/json" => {
                return render::value(200, &document(), Accepted::default());
            }
            gnostic::MEDIA_TYPE | OLD_NAME => {
                return render::with_type(200, gnostic::MEDIA_TYPE, gnostic::encode(&document()).into());
            }
            _ => {}
        }
    }
    render::text(406, "")
}

/// Where each document of version 3 is, those that other servers have included.
fn openapi_v3(server: &ApiServer) -> Value {
    let mut index = openapi::v3_index(&server.custom.all());
    let Some(paths) = index["paths"].as_object_mut() else { return index };
    for (remote, documents) in server.aggregation.documents() {
        let path = remote.registration.path().trim_start_matches('/').to_owned();
        match &documents.v3 {
            Some(url) => paths.insert(path, json!({ "serverRelativeURL": url })),
            None => paths.remove(&path),
        };
    }
    index
}

/// Where others find the keys that verify service-account tokens (OpenID Connect discovery, as upstream serves it).
fn issuer(server: &ApiServer) -> Value {
    let issuer = &server.authenticator.tokens.issuer;
    json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.2+pintle.", env!("CARGO_PKG_VERSION")), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Everything that can be asked for, as `/` lists it.
fn paths(server: &ApiServer) -> Vec<String> {
    let mut all: Vec<String> = ["/api", "/api/v1", "/apis", "/apis/"].map(str::to_owned).into();
    for group in server.groups() {
        all.push(format!("/apis/{}", group.name));
        all.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    all.extend(
        [
            "/.well-known/openid-configuration",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    all.sort();
    all
}

/// `/api` and `/apis`: aggregated where the client understands it, the list of groups otherwise.
fn discover(server: &ApiServer, parts: &Parts, path: &str, accepted: Accepted) -> Response<Body> {
    let header = parts.headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    for clause in negotiate::clauses(header) {
        let aggregated = clause.param("as") == "APIGroupDiscoveryList" && clause.param("g") == "apidiscovery.k8s.io";
        match clause.param("v") {
            form @ ("v2" | "v2beta1") if aggregated => return aggregate(server, path, form),
            _ if clause.param("as").is_empty() => break,
            _ => {}
        }
    }
    let groups = server.groups();
    let document =
        if path == "/api" { discovery::api_versions("127.0.0.1:6443") } else { discovery::group_list(&groups) };
    render::value(200, &document, accepted)
}

fn aggregate(server: &ApiServer, path: &str, form: &str) -> Response<Body> {
    let document = match path {
        "/api" => discovery::aggregated_core(form, server.kinds()),
        _ => discovery::aggregated(form, &server.groups(), server.kinds(), &|group, version| {
            let documents = server.aggregation.of(group, version)?.documents.load_full().unwrap_or_default();
            Some(others::entry(version, &documents.resources, documents.fresh))
        }),
    };
    let media_type = match form {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    render::with_type(200, media_type, document.to_string().into())
}

/// `/api/v1`, `/apis/<group>` and `/apis/<group>/<version>`.
fn group(server: &ApiServer, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let all = server.kinds();
    let groups = server.groups();
    let known = |group: &str, version: &str| all.iter().any(|k| k.group == group && k.version == version);
    match parts.as_slice() {
        ["api", version] if known("", version) => Some(discovery::resource_list("", version, all)),
        ["apis", name] => groups.iter().find(|g| g.name == *name).map(discovery::group),
        ["apis", name, version] if known(name, version) => Some(discovery::resource_list(name, version, all)),
        _ => None,
    }
}

/// The checks behind `/healthz`, `/livez` and `/readyz`: the server answers only once all of them hold.
const CHECKS: [&str; 5] = ["ping", "log", "etcd", "informer-sync", "poststarthook/bootstrap"];

/// Which endpoint, and which of its checks.
fn health(path: &str) -> Option<(&str, &str)> {
    let (endpoint, check) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    matches!(endpoint, "healthz" | "livez" | "readyz").then_some((endpoint, check))
}

fn healthy(server: &ApiServer, path: &str, query: &Query) -> Response<Body> {
    let (endpoint, one) = health(path).unwrap_or_default();
    let stopping = server.cancel.is_cancelled() && endpoint == "readyz";
    if !one.is_empty() {
        return match CHECKS.contains(&one) {
            true => render::text(200, "ok"),
            false => render::nothing_here(),
        };
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines: Vec<String> = CHECKS
        .iter()
        .map(|check| match excluded.contains(check) {
            true => format!("[+]{check} excluded: ok\n"),
            false => format!("[+]{check} ok\n"),
        })
        .collect();
    if endpoint == "readyz" {
        let state = if stopping { "[-]shutdown failed: reason withheld\n" } else { "[+]shutdown ok\n" };
        lines.push(state.to_owned());
    }
    match (stopping, query.get("verbose").is_some()) {
        (true, _) => render::text(500, format!("{}{endpoint} check failed\n", lines.concat())),
        (false, true) => render::text(200, format!("{}{endpoint} check passed\n", lines.concat())),
        (false, false) => render::text(200, "ok"),
    }
}
