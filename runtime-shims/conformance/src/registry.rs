//! A registry on loopback that serves the suite's images and nothing else: OCI's distribution API, the reading half.
//!
//! Must not know: what the images are for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pintle_cri::archive::{Blob, Image};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const TAG: &str = "1";
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    digests: HashMap<String, String>,
    serving: JoinHandle<()>,
}

/// What there is below `/v2/`, by path.
type Pages = HashMap<String, Blob>;

impl Registry {
    pub async fn start(images: &[(&'static str, Image)]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listening on loopback for the images")?;
        let address = listener.local_addr()?;
        let digests = images.iter().map(|(name, image)| ((*name).to_owned(), image.manifest.descriptor.digest.clone()));
        let serving = tokio::spawn(serve(listener, Arc::new(pages(images))));
        Ok(Self { address, digests: digests.collect(), serving })
    }

    /// An image's name with its tag.
    pub fn tagged(&self, name: &str) -> String {
        format!("{}/conformance/{name}:{TAG}", self.address)
    }

    /// An image's name with its digest.
    pub fn by_digest(&self, name: &str) -> String {
        let digest = self.digests.get(name).map_or("", String::as_str);
        format!("{}/conformance/{name}@{digest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn pages(images: &[(&'static str, Image)]) -> Pages {
    let mut pages = Pages::new();
    for (name, image) in images {
        let digest = &image.manifest.descriptor.digest;
        for reference in [TAG, digest] {
            pages.insert(format!("/v2/conformance/{name}/manifests/{reference}"), image.manifest.clone());
        }
        for blob in image.layers.iter().chain([&image.config]) {
            pages.insert(format!("/v2/conformance/{name}/blobs/{}", blob.descriptor.digest), blob.clone());
        }
    }
    pages
}

async fn serve(listener: TcpListener, pages: Arc<Pages>) {
    while let Ok((connection, _)) = listener.accept().await {
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&pages, &request))));
            // a client that went away is no concern of the others
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

fn answer(pages: &Pages, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/v2/") => plain(StatusCode::OK),
        (&Method::GET | &Method::HEAD, path) => match pages.get(path) {
            Some(blob) => page(blob, request.method() == Method::HEAD),
            None => plain(StatusCode::NOT_FOUND),
        },
        _ => plain(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn page(blob: &Blob, head: bool) -> Response<Full<Bytes>> {
    let descriptor = &blob.descriptor;
    let body = if head { Bytes::new() } else { Bytes::copy_from_slice(&blob.bytes) };
    let response = Response::builder()
        .header(CONTENT_TYPE, &descriptor.media_type)
        .header(CONTENT_LENGTH, descriptor.size)
        .header(CONTENT_DIGEST, &descriptor.digest)
        .body(Full::new(body));
    response.unwrap_or_else(|_| Response::new(Full::default()))
}
