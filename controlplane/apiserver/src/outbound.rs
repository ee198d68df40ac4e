//! Requests of the server's own, to services and URLs that extend it: webhooks.
//!
//! Must not know: what is asked.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use serde_json::Value;

use crate::body::request_body;
use crate::relay::connect;
use crate::relay::proxied;
use crate::relay::target::{Target, Transport};
use crate::server::ApiServer;

/// The longest answer that is read, in bytes.
const LONGEST: usize = 8 * 1024 * 1024;

/// Who is asked: a path of a service of the cluster, or a URL.
#[derive(Debug, Clone)]
pub enum Callee<'a> {
    Service { namespace: &'a str, name: &'a str, path: &'a str, port: u16 },
    Url(&'a str),
}

impl Callee<'_> {
    /// As errors name it.
    fn url(&self) -> String {
        match self {
            Self::Url(url) => (*url).to_owned(),
            Self::Service { namespace, name, path, port } => {
                format!("https://{name}.{namespace}.svc:{port}/{}", path.trim_start_matches('/'))
            }
        }
    }
}

/// Which certificates vouch for the other end; what TLS needs of that is made once.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Trust {
    /// Base64 of PEM; empty for those that the machine trusts.
    bundle: String,
    config: OnceLock<Arc<rustls::ClientConfig>>,
}

impl From<String> for Trust {
    fn from(bundle: String) -> Self {
        Self { bundle, config: OnceLock::new() }
    }
}

impl Trust {
    fn config(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let bundle = STANDARD.decode(&self.bundle).context("the bundle of certificates is no base64")?;
        let config = pintle_pki::trusting(&bundle)?;
        Ok(self.config.get_or_init(|| config).clone())
    }
}

/// Posts `body` and reads the JSON that comes back, both within `timeout`. Errors are worded as Go's clients word them.
pub async fn post(
    server: &Arc<ApiServer>,
    callee: &Callee<'_>,
    trust: &Trust,
    body: &Value,
    timeout: Duration,
) -> anyhow::Result<Value> {
    let url = format!("{}?timeout={}s", callee.url(), timeout.as_secs());
    let exchange = exchange(server, callee, &url, trust, body);
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer.map_err(|error| anyhow::anyhow!("Post {url:?}: {error:#}")),
        Err(_) => Err(anyhow::anyhow!("Post {url:?}: context deadline exceeded")),
    }
}

async fn exchange(
    server: &Arc<ApiServer>,
    callee: &Callee<'_>,
    url: &str,
    trust: &Trust,
    body: &Value,
) -> anyhow::Result<Value> {
    let uri: Uri = url.parse()?;
    let host = uri.host().context("no Host in request URL")?.trim_matches(['[', ']']).to_owned();
    let (address, port) = match callee {
        Callee::Service { namespace, name, port, .. } => proxied::endpoint(server, namespace, name, *port)?,
        Callee::Url(_) => (host.clone(), uri.port_u16().unwrap_or(443)),
    };
    let target = Target { host: address, port: Some(port), transport: Transport::Unverified, path: String::new() };
    let config = trust.config()?;
    let request = request(&uri, body)?;
    let response = connect::secured(&target, config, ServerName::try_from(host)?, request).await?;
    let status = response.status();
    let read = Limited::new(response.into_body(), LONGEST).collect().await;
    let bytes = read.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?.to_bytes();
    if !status.is_success() {
        let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(2048)).unwrap_or_default()).trim().to_owned();
        anyhow::bail!("an error on the server ({text:?}) has prevented the request from succeeding: {status}");
    }
    serde_json::from_slice(&bytes).context("the answer is no JSON")
}

fn request(uri: &Uri, body: &Value) -> anyhow::Result<Request<crate::body::RequestBody>> {
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let bytes = Bytes::from(serde_json::to_vec(body)?);
    let mut request = Request::new(request_body(Full::new(bytes)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse()?;
    let headers = request.headers_mut();
    let host = uri.authority().context("no Host in request URL")?.as_str();
    headers.insert(HOST, HeaderValue::from_str(host)?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_its_certificate_names_it() {
        let callee = Callee::Service { namespace: "n", name: "hook", path: "/a", port: 443 };
        assert_eq!(callee.url(), "https://hook.n.svc:443/a");
        let request = request(&"https://hook.n.svc:443/a?timeout=1s".parse().unwrap(), &Value::Null).unwrap();
        assert_eq!(request.uri(), "/a?timeout=1s");
        assert_eq!(request.headers()[HOST], "hook.n.svc:443");
    }
}
