//! A registry that misbehaves as it is told, and notes what it is asked.
//!
//! Must not know: the store.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::images::{Blob, Image};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What goes wrong with one request for a blob.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    Status(u16),
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes, and the connection stays.
    Stall(usize),
    /// All of it comes although a part was asked for.
    Whole,
    /// Other bytes of the same number.
    Wrong,
    /// So many bytes more than there are.
    Longer(usize),
}

/// Who is let in.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Gate {
    #[default]
    Open,
    Basic,
    /// Tokens from this server, for those with the password.
    Token,
}

#[derive(Default)]
struct State {
    address: String,
    documents: HashMap<String, Blob>,
    faults: HashMap<String, VecDeque<Fault>>,
    asked: Vec<(String, Option<String>)>,
    gate: Gate,
    /// What the token server hands out, as JSON has it.
    token: Option<&'static str>,
}

#[derive(Clone)]
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub async fn start() -> Self {
        let (server, listener) = Self::bind().await;
        let served = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.serve(TokioIo::new(stream));
            }
        });
        server
    }

    /// Over TLS, with a certificate for `localhost`; its PEM too.
    pub async fn start_tls() -> (Self, String) {
        let (mut server, listener) = Self::bind().await;
        let port = server.address.rsplit_once(':').unwrap().1.to_owned();
        server.address = format!("localhost:{port}");
        server.state.lock().unwrap().address = server.address.clone();
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let served = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (served, acceptor) = (served.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        served.serve(TokioIo::new(stream));
                    }
                });
            }
        });
        (server, key.cert.pem())
    }

    async fn bind() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State { address: address.clone(), ..State::default() };
        (Self { address, state: Arc::new(Mutex::new(state)) }, listener)
    }

    fn serve<S>(&self, stream: TokioIo<S>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(&request)) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
    }

    /// An image as `app:1`; its reference.
    pub fn hold(&self, image: &Image) -> String {
        let mut state = self.state.lock().unwrap();
        for blob in image.layers.iter().map(|it| &it.blob).chain([&image.config]) {
            state.documents.insert(format!("/v2/app/blobs/{}", blob.digest()), blob.clone());
        }
        for name in ["1".to_owned(), image.manifest.digest().to_string()] {
            state.documents.insert(format!("/v2/app/manifests/{name}"), image.manifest.clone());
        }
        format!("{}/app:1", self.address)
    }

    /// Something else under a manifest's name.
    pub fn hold_manifest(&self, name: &str, manifest: Blob) {
        self.state.lock().unwrap().documents.insert(format!("/v2/app/manifests/{name}"), manifest);
    }

    /// The next requests for a blob meet these, one each.
    pub fn fail(&self, blob: &Blob, faults: impl IntoIterator<Item = Fault>) {
        let path = format!("/v2/app/blobs/{}", blob.digest());
        self.state.lock().unwrap().faults.entry(path).or_default().extend(faults);
    }

    pub fn close(&self, gate: Gate) {
        self.state.lock().unwrap().gate = gate;
    }

    /// Whoever gets a token gets this one, as JSON has it.
    pub fn hand_out(&self, token: &'static str) {
        self.state.lock().unwrap().token = Some(token);
    }

    /// The ranges of the requests for a blob, in order.
    pub fn ranges(&self, blob: &Blob) -> Vec<Option<String>> {
        let end = format!("/blobs/{}", blob.digest());
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(path, _)| path.ends_with(&end)).map(|(_, range)| range.clone()).collect()
    }

    /// Every path that was asked for, with its query.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.iter().map(|(path, _)| path.clone()).collect()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let mut state = self.state.lock().unwrap();
        let range = request.headers().get("range").map(|it| it.to_str().unwrap().to_owned());
        let asked = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        state.asked.push((asked, range.clone()));
        let path = request.uri().path();
        if path == "/token" {
            return match has_password(request.headers()) {
                true => {
                    let token = state.token.unwrap_or("opaque");
                    whole(Blob::new("application/json", format!(r#"{{"token":"{token}"}}"#)))
                }
                false => status(401, "wrong password"),
            };
        }
        if let Some(refused) = state.refused(request.headers()) {
            return refused;
        }
        if path == "/v2/" {
            return status(200, "{}");
        }
        let Some(document) = state.documents.get(path).cloned() else {
            return status(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
        };
        if !path.contains("/blobs/") {
            return whole(document);
        }
        let fault = state.faults.get_mut(path).and_then(VecDeque::pop_front);
        blob(document.bytes, range.as_deref(), fault)
    }
}

impl State {
    fn refused(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let token = headers.get("authorization").is_some_and(|it| it == "Bearer opaque");
        let challenge = match self.gate {
            Gate::Basic if !has_password(headers) => "Basic realm=\"here\"".to_owned(),
            Gate::Token if !token => {
                format!("Bearer realm=\"http://{}/token\",service=\"here\"", self.address)
            }
            _ => return None,
        };
        let mut answer = status(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#);
        answer.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        Some(answer)
    }
}

fn has_password(headers: &HeaderMap) -> bool {
    let expected = base64::engine::general_purpose::STANDARD.encode("me:secret");
    headers.get("authorization").is_some_and(|it| *it == format!("Basic {expected}"))
}

fn status(code: u16, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn whole(document: Blob) -> Response<Body> {
    let mut answer =
        Response::new(Full::new(Bytes::from(document.bytes)).map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert("content-type", document.media_type.parse().unwrap());
    answer
}

fn blob(mut bytes: Vec<u8>, range: Option<&str>, fault: Option<Fault>) -> Response<Body> {
    let from = range.and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0_usize);
    let partial = range.is_some() && fault != Some(Fault::Whole);
    if partial && from > bytes.len() {
        return status(416, "");
    }
    match fault {
        Some(Fault::Status(code)) => return status(code, ""),
        Some(Fault::Wrong) => bytes.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Fault::Longer(more)) => bytes.extend(vec![0; more]),
        _ => {}
    }
    let bytes = if partial { bytes.split_off(from) } else { bytes };
    let (most, cut) = match fault {
        Some(Fault::Cut(most)) => (most, true),
        Some(Fault::Stall(most)) => (most, false),
        _ => (bytes.len(), false),
    };
    let builder = Response::builder().header("content-length", bytes.len());
    let builder = builder.status(if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    builder.body(body(bytes, most, cut)).unwrap()
}

/// The first `most` bytes; then an end of the connection, or nothing for ever.
fn body(bytes: Vec<u8>, most: usize, cut: bool) -> Body {
    let most = most.min(bytes.len());
    let complete = most == bytes.len();
    let chunks: Vec<_> = bytes[..most].chunks(16 << 10).map(|it| Ok(Frame::data(Bytes::copy_from_slice(it)))).collect();
    let chunks = futures::stream::iter(chunks);
    let end = futures::stream::once(async move {
        if !cut {
            futures::future::pending::<()>().await;
        }
        // what was sent gets through before the connection ends
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    match complete {
        true => BodyExt::boxed_unsync(StreamBody::new(chunks)),
        false => {
            BodyExt::boxed_unsync(StreamBody::new(futures::StreamExt::boxed(futures::StreamExt::chain(chunks, end))))
        }
    }
}
