//! Debian's docker-registry on a loopback port of its own.
//!
//! Must not know: which images are in it.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::images::{Blob, Image};

pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    process: Child,
    _storage: tempfile::TempDir,
}

impl Registry {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more lines of its configuration.
    pub async fn start_with(extra: &str) -> Self {
        let storage = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (config, data) = (storage.path().join("config.yml"), storage.path().join("data"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\"}}\n{extra}",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("Debian's docker-registry");
        let registry = Self { address, process, _storage: storage };
        while tokio::net::TcpStream::connect(&registry.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// Pushes an image; its reference.
    pub async fn push(&self, name: &str, tag: &str, image: &Image) -> String {
        for blob in image.layers.iter().map(|it| &it.blob).chain([&image.config]) {
            self.push_blob(name, blob).await;
        }
        self.push_manifest(name, tag, &image.manifest).await
    }

    pub async fn push_manifest(&self, name: &str, tag: &str, manifest: &Blob) -> String {
        let uri = format!("http://{}/v2/{name}/manifests/{tag}", self.address);
        let answer = send(Method::PUT, &uri, &manifest.media_type, manifest.bytes.clone()).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        format!("{}/{name}:{tag}", self.address)
    }

    async fn push_blob(&self, name: &str, blob: &Blob) {
        let uri = format!("http://{}/v2/{name}/blobs/uploads/", self.address);
        let start = send(Method::POST, &uri, "", Vec::new()).await;
        let place = start.headers()["location"].to_str().unwrap();
        let digest = blob.digest().to_string().replace(':', "%3A");
        let uri = format!("{place}&digest={digest}");
        let done = send(Method::PUT, &uri, "application/octet-stream", blob.bytes.clone()).await;
        assert_eq!(done.status(), StatusCode::CREATED);
    }
}

async fn send(method: Method, uri: &str, media_type: &str, body: Vec<u8>) -> Response<hyper::body::Incoming> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::builder().method(method).uri(uri).header("content-type", media_type);
    let request = request.header("authorization", "Basic bWU6c2VjcmV0").body(Full::from(body)).unwrap();
    client.request(request).await.unwrap()
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
