//! Registries on loopback that serve the suite's images and nothing else: OCI's distribution API, the reading half. Of the
//! three, one is for everybody, one for an account, one for that account's tokens.
//!
//! Must not know: what the images are for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pintle_cri::archive::Blob;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::images::Served;

const TAG: &str = "1";
const CONTENT_DIGEST: &str = "docker-content-digest";
pub const USER: &str = "tester";
pub const PASSWORD: &str = "a secret: of the suite";
const TOKEN: &str = "dGhlIHN1aXRlJ3MgdG9rZW4";

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Registry {
    /// In the order of [`Readers`].
    addresses: [SocketAddr; 3],
    digests: HashMap<String, String>,
    pages: Arc<RwLock<Pages>>,
    serving: Vec<JoinHandle<()>>,
}

/// What there is below `/v2/conformance/`, by path.
type Pages = HashMap<String, Blob>;

/// Who may read an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    All,
    /// [`USER`] with [`PASSWORD`].
    Basic,
    /// Whoever has a token, which the same account gets.
    Token,
}

impl Registry {
    pub async fn start(images: Vec<Served>) -> anyhow::Result<Self> {
        let digests = images.iter().map(|one| (one.name.to_owned(), one.manifest.descriptor.digest.clone())).collect();
        let pages = Arc::new(RwLock::new(pages(images)));
        let (mut addresses, mut serving) = ([SocketAddr::from(([127, 0, 0, 1], 0)); 3], Vec::new());
        for (address, readers) in addresses.iter_mut().zip([Readers::All, Readers::Basic, Readers::Token]) {
            let listener = TcpListener::bind(*address).await.context("listening on loopback for the images")?;
            *address = listener.local_addr()?;
            serving.push(tokio::spawn(serve(listener, Door { readers, address: *address }, pages.clone())));
        }
        Ok(Self { addresses, digests, pages, serving })
    }

    /// An image's name with its tag.
    pub fn tagged(&self, name: &str) -> String {
        self.tagged_for(Readers::All, name)
    }

    pub fn tagged_for(&self, readers: Readers, name: &str) -> String {
        format!("{}/conformance/{name}:{TAG}", self.address(readers))
    }

    pub fn digest(&self, name: &str) -> &str {
        self.digests.get(name).map_or("", String::as_str)
    }

    /// An image's name with its digest.
    pub fn by_digest(&self, name: &str) -> String {
        format!("{}/conformance/{name}@{}", self.address(Readers::All), self.digest(name))
    }

    /// Whether a name is of this registry.
    pub fn is_here(&self, name: &str) -> bool {
        self.addresses.iter().any(|address| name.starts_with(&format!("{address}/")))
    }

    fn address(&self, readers: Readers) -> SocketAddr {
        let [all, basic, token] = self.addresses;
        match readers {
            Readers::All => all,
            Readers::Basic => basic,
            Readers::Token => token,
        }
    }

    /// From now on, the tag of the first name stands for what the second's does, all of which the first gets too.
    pub fn move_tag(&self, name: &str, to: &str) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let theirs: Vec<_> = pages.iter().filter_map(|(path, page)| Some((path.strip_prefix(to)?, page))).collect();
        let theirs = theirs.into_iter().filter(|(rest, _)| rest.starts_with('/'));
        let moved: Vec<_> = theirs.map(|(rest, page)| (format!("{name}{rest}"), page.clone())).collect();
        pages.extend(moved);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

fn pages(images: Vec<Served>) -> Pages {
    let mut pages = Pages::new();
    for Served { name, manifest, blobs } in images {
        for blob in blobs {
            for kind in ["blobs", "manifests"] {
                pages.insert(format!("{name}/{kind}/{}", blob.descriptor.digest), blob.clone());
            }
        }
        for reference in [TAG, &manifest.descriptor.digest] {
            pages.insert(format!("{name}/manifests/{reference}"), manifest.clone());
        }
    }
    pages
}

/// Who may come in, and where.
#[derive(Clone, Copy)]
struct Door {
    readers: Readers,
    address: SocketAddr,
}

async fn serve(listener: TcpListener, door: Door, pages: Arc<RwLock<Pages>>) {
    while let Ok((connection, _)) = listener.accept().await {
        let pages = pages.clone();
        tokio::spawn(async move {
            let answered = |request: Request<Incoming>| {
                let pages = pages.read().unwrap_or_else(PoisonError::into_inner);
                std::future::ready(Ok::<_, Infallible>(answer(&pages, door, &request)))
            };
            let http = hyper::server::conn::http1::Builder::new();
            // a client that went away is no concern of the others
            let _ = http.serve_connection(TokioIo::new(connection), service_fn(answered)).await;
        });
    }
}

fn answer(pages: &Pages, door: Door, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let path = request.uri().path();
    let (wanted, challenge) = match door.readers {
        Readers::All => (String::new(), String::new()),
        Readers::Basic => (basic(), "Basic realm=\"conformance\"".to_owned()),
        Readers::Token if path == "/token" => return token(request),
        Readers::Token => (format!("Bearer {TOKEN}"), bearer(door.address, path)),
    };
    if !wanted.is_empty() && !has(request, &wanted) {
        return refuse(&challenge);
    }
    match path.strip_prefix("/v2/") {
        Some("") => plain(StatusCode::OK),
        Some(rest) => match rest.strip_prefix("conformance/").and_then(|page| pages.get(page)) {
            Some(blob) => page(blob, request.method() == Method::HEAD),
            None => plain(StatusCode::NOT_FOUND),
        },
        None => plain(StatusCode::NOT_FOUND),
    }
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")))
}

fn bearer(address: SocketAddr, path: &str) -> String {
    let name = path.strip_prefix("/v2/conformance/").and_then(|rest| rest.split('/').next());
    let scope = name.map(|name| format!(",scope=\"repository:conformance/{name}:pull\"")).unwrap_or_default();
    format!("Bearer realm=\"http://{address}/token\",service=\"conformance\"{scope}")
}

fn has(request: &Request<Incoming>, wanted: &str) -> bool {
    request.headers().get(AUTHORIZATION).is_some_and(|found| found == wanted)
}

fn token(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !has(request, &basic()) {
        return refuse("Basic realm=\"conformance\"");
    }
    let mut response = plain(StatusCode::OK);
    *response.body_mut() = Full::from(format!("{{\"token\":\"{TOKEN}\",\"expires_in\":300}}"));
    response
}

fn refuse(challenge: &str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::UNAUTHORIZED);
    let challenge = challenge.parse();
    response.headers_mut().extend(challenge.ok().map(|challenge| (WWW_AUTHENTICATE, challenge)));
    response
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn page(blob: &Blob, head: bool) -> Response<Full<Bytes>> {
    let descriptor = &blob.descriptor;
    let body = if head { Bytes::new() } else { Bytes::copy_from_slice(&blob.bytes) };
    let response = Response::builder()
        .header(CONTENT_TYPE, &descriptor.media_type)
        .header(CONTENT_LENGTH, blob.bytes.len())
        .header(CONTENT_DIGEST, &descriptor.digest)
        .body(Full::new(body));
    response.unwrap_or_else(|_| Response::new(Full::default()))
}
