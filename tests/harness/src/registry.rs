//! Debian's docker-registry, on a loopback port of its own and with its storage in a temporary directory; runtimes use
//! plain HTTP for loopback addresses without being told.
//!
//! Must not know: which images are in it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pintle_cri::archive::{Blob, Image};

/// A running registry; dropping it ends it and removes what it holds.
pub struct Registry {
    /// `127.0.0.1:PORT`, with which references begin.
    pub address: String,
    process: Child,
    client: Client<HttpConnector, Full<Bytes>>,
    _storage: tempfile::TempDir,
}

impl Registry {
    /// # Errors
    /// There is no `docker-registry` (Debian's package of that name), or it does not come up.
    pub async fn start() -> Result<Self> {
        let storage = tempfile::Builder::new().prefix("pintle-registry-").tempdir()?;
        let address = free_address()?;
        let config = storage.path().join("config.yml");
        fs::write(&config, configuration(address, storage.path()))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("cannot start docker-registry (apt-get install docker-registry)")?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut registry = Self { address: address.to_string(), process, client, _storage: storage };
        registry.wait_until_up().await?;
        Ok(registry)
    }

    /// Pushes an image as `name:tag`; its full reference.
    ///
    /// # Errors
    /// The registry refuses.
    pub async fn push(&self, name: &str, tag: &str, image: &Image) -> Result<String> {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(name, blob).await.with_context(|| format!("cannot push a blob of {name}"))?;
        }
        let manifest = &image.manifest;
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("http://{}/v2/{name}/manifests/{tag}", self.address))
            .header(CONTENT_TYPE, &manifest.descriptor.media_type)
            .body(Full::from(manifest.bytes.clone()))?;
        let answer = self.client.request(request).await?;
        ensure!(answer.status() == StatusCode::CREATED, "the registry refused {name}:{tag}: {}", answer.status());
        Ok(format!("{}/{name}:{tag}", self.address))
    }

    async fn push_blob(&self, name: &str, blob: &Blob) -> Result<()> {
        let start =
            self.send(Method::POST, &format!("http://{}/v2/{name}/blobs/uploads/", self.address), vec![]).await?;
        let place = start.headers().get(LOCATION).context("no place to upload to")?.to_str()?;
        let absolute =
            if place.starts_with('/') { format!("http://{}{place}", self.address) } else { place.to_owned() };
        let joint = if absolute.contains('?') { '&' } else { '?' };
        let digest = blob.descriptor.digest.replace(':', "%3A");
        let done = self.send(Method::PUT, &format!("{absolute}{joint}digest={digest}"), blob.bytes.clone()).await?;
        ensure!(done.status() == StatusCode::CREATED, "{}", done.status());
        Ok(())
    }

    async fn send(&self, method: Method, uri: &str, body: Vec<u8>) -> Result<Response<hyper::body::Incoming>> {
        let request = Request::builder().method(method).uri(uri);
        let request = request.header(CONTENT_TYPE, "application/octet-stream").body(Full::from(body))?;
        Ok(self.client.request(request).await?)
    }

    async fn wait_until_up(&mut self) -> Result<()> {
        for _ in 0..200 {
            if let Some(status) = self.process.try_wait()? {
                bail!("docker-registry ended at once: {status}");
            }
            if tokio::net::TcpStream::connect(&self.address).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("docker-registry does not listen on {}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn configuration(address: SocketAddr, storage: &std::path::Path) -> String {
    format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.join("data").display()
    )
}
