//! What another server says of itself: its resources, for discovery, and its OpenAPI. Read when it becomes available, every
//! minute, and soon again after a failure. Source: `kube-aggregator/pkg/apiserver/handler_discovery.go` and
//! `pkg/controllers/openapi{,v3}`.
//!
//! Must not know: what the documents are for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, ETAG};
use pintle_api::aggregation::{discovery, openapi};
use pintle_daemon::backoff::Backoff;
use serde_json::Value;

use super::{Remote, ask};
use crate::negotiate;
use crate::server::ApiServer;

/// How often they are read while all is well; also the longest wait after failures.
const REGULARLY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(500);

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

#[derive(Default, Clone)]
pub struct Documents {
    /// In the aggregated form; as last seen.
    pub resources: Vec<Value>,
    /// Whether the last attempt to read them succeeded.
    pub fresh: bool,
    /// Where OpenAPI version 3 is: a path, and a hash of what is there.
    pub v3: Option<String>,
    /// What version 2 has of this API, with the tag of the whole.
    pub v2: Option<(String, Arc<Value>)>,
}

pub async fn keep(server: Weak<ApiServer>, remote: Arc<Remote>) {
    let mut backoff = Backoff::new(RETRY, REGULARLY);
    loop {
        let Some(up) = server.upgrade() else { return };
        let wait = match read(&up, &remote).await {
            Ok(()) => {
                backoff.reset();
                REGULARLY
            }
            Err(error) => {
                tracing::debug!(api_service = remote.registration.name, "its discovery was not read: {error:#}");
                backoff.next_delay()
            }
        };
        drop(up);
        let _ = tokio::time::timeout(wait, remote.reread.notified()).await;
    }
}

/// Reads all of them. What was there is kept where the server does not say what it has.
pub async fn read(server: &ApiServer, remote: &Remote) -> anyhow::Result<()> {
    let mut documents = remote.documents.load().as_deref().cloned().unwrap_or_default();
    let read = resources(server, remote).await;
    documents.fresh = read.is_ok();
    let outcome = match read {
        Ok(resources) => {
            documents.resources = resources;
            describe(server, remote, &mut documents).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    remote.documents.store(Some(Arc::new(documents)));
    outcome
}

async fn get(
    server: &ApiServer,
    remote: &Remote,
    path: &str,
    accept: &str,
    known: &str,
) -> anyhow::Result<Response<Bytes>> {
    let target = remote.target(server, path.to_owned())?;
    ask::get(remote, &target, accept, known).await
}

/// In the aggregated form where the server knows it, else from the list of the one group and version.
async fn resources(server: &ApiServer, remote: &Remote) -> anyhow::Result<Vec<Value>> {
    let registration = &remote.registration;
    let answer = get(server, remote, "/apis", AGGREGATED, "").await?;
    anyhow::ensure!(answer.status() != 503, "it is not available");
    if answer.status() == 200 && is_aggregated(&answer) {
        let list: Value = serde_json::from_slice(answer.body()).context("the list of groups is no JSON")?;
        return Ok(discovery::resources_of(&list, &registration.group, &registration.version).unwrap_or_default());
    }
    let answer = get(server, remote, &registration.path(), "application/json", "").await?;
    anyhow::ensure!(answer.status() == 200, "its list of resources is answered with {}", answer.status());
    let list: Value = serde_json::from_slice(answer.body()).context("the list of resources is no JSON")?;
    Ok(discovery::from_resource_list(&list))
}

fn is_aggregated(answer: &Response<Bytes>) -> bool {
    let said = answer.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    negotiate::clauses(said).iter().any(|it| it.param("as") == "APIGroupDiscoveryList")
}

/// OpenAPI, as far as the server has it.
async fn describe(server: &ApiServer, remote: &Remote, documents: &mut Documents) {
    let name = &remote.registration.name;
    match version_three(server, remote).await {
        Ok(url) => documents.v3 = url,
        Err(error) => tracing::debug!(api_service = name, "its OpenAPI v3 was not read: {error:#}"),
    }
    let known = documents.v2.as_ref().map_or("", |(tag, _)| tag).to_owned();
    match version_two(server, remote, &known).await {
        Ok(Some(part)) => documents.v2 = Some(part),
        Ok(None) => {}
        Err(error) => tracing::debug!(api_service = name, "its OpenAPI v2 was not read: {error:#}"),
    }
}

async fn version_three(server: &ApiServer, remote: &Remote) -> anyhow::Result<Option<String>> {
    let answer = get(server, remote, "/openapi/v3", "application/json", "").await?;
    if answer.status() != 200 {
        return Ok(None);
    }
    let index: Value = serde_json::from_slice(answer.body()).context("the index is no JSON")?;
    let path = remote.registration.path();
    Ok(index["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str().map(str::to_owned))
}

/// None where it has none, or the one that is known.
async fn version_two(server: &ApiServer, remote: &Remote, known: &str) -> anyhow::Result<Option<(String, Arc<Value>)>> {
    let answer = get(server, remote, "/openapi/v2", "application/json", known).await?;
    if answer.status() != 200 {
        return Ok(None);
    }
    let tag = answer.headers().get(ETAG).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    let document: Value = serde_json::from_slice(answer.body()).context("the document is no JSON")?;
    Ok(Some((tag, Arc::new(openapi::part(&document, &remote.registration.path())))))
}
