//! What registries answer: challenges, tokens, manifests, blobs, errors. A pull is an image or an error, and ends.
//!
//! The registry is a server on a loopback address, and no answer sends the client anywhere else.
//! Must not know: how a pull asks.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pintle_images::{Auth, Config, Digest, Limits, Progress, Store};
use serde_json::json;
use tokio::net::TcpListener;

use super::blobs::Blobs;
use super::cage::{Cage, limits};
use super::ended;
use crate::{Dice, mutate, vary};

type Answer = Response<Full<Bytes>>;

/// A registry that answers as the dice fall, but challenges everybody alike and hands out the same token always: a second
/// token that no header may carry makes oci-client panic, which a pull contains and a fuzzer does not.
struct Registry {
    dice: Dice,
    blobs: Blobs,
    manifest: Vec<u8>,
    token: Vec<u8>,
    challenge: Option<Vec<u8>>,
}

impl Registry {
    fn new(address: &str, dice: &mut Dice) -> Self {
        let mut blobs = Blobs::default();
        let image = blobs.image(dice);
        let top = if dice.one_in(3) { blobs.index(vec![image.manifest], dice) } else { image.manifest };
        let named = |it: &&(Digest, Vec<u8>)| top["digest"] == it.0.as_str();
        let mut manifest = blobs.0.iter().find(named).map(|it| it.1.clone()).unwrap_or_default();
        if dice.one_in(6) {
            manifest = vary(&manifest, dice);
        }
        let token =
            vary(json!({ "token": "a.e30.b", "access_token": "c", "expires_in": 60 }).to_string().as_bytes(), dice);
        let challenge = if dice.one_in(4) { None } else { challenge(address, dice) };
        Self { dice: dice.clone(), blobs, manifest, token, challenge }
    }

    fn answer(&mut self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let known = request.headers().contains_key("authorization");
        if path.starts_with("/token") {
            let code = if self.dice.one_in(8) { 401 } else { 200 };
            return answer(code, self.token.clone());
        }
        if path == "/v2/" {
            let mut answered = answer(if self.challenge.is_some() { 401 } else { 200 }, Vec::new());
            if let Some(challenge) = &self.challenge {
                with(&mut answered, "www-authenticate", challenge);
            }
            return answered;
        }
        if self.dice.one_in(12) || (!known && self.dice.one_in(6)) {
            return self.refusal();
        }
        let found = self.blobs.0.iter().find(|(digest, _)| path.ends_with(digest.as_str())).map(|it| it.1.clone());
        let bytes = match found {
            None if path.contains("/manifests/") => self.manifest.clone(),
            found => found.unwrap_or_default(),
        };
        let mut sent = answer(*self.dice.choose(&[200, 200, 200, 206]), bytes);
        if self.dice.one_in(6) {
            let (name, value) = *self.dice.choose(&[
                ("docker-content-digest", "sha256:0"),
                ("docker-content-digest", "sha512:"),
                ("content-range", "bytes 5-1/0"),
                ("content-type", "\u{fc}"),
                ("content-encoding", "gzip"),
            ]);
            with(&mut sent, name, value.as_bytes());
        }
        sent
    }

    fn refusal(&mut self) -> Answer {
        let body = br#"{"errors":[{"code":"DENIED","message":"no","detail":[{"Type":"repository"}]}]}"#;
        let code = *self.dice.choose(&[400, 401, 403, 404, 416, 429, 500, 503, 302, 307, 204, 304]);
        let mut refused = answer(code, vary(body, &mut self.dice));
        if matches!(code, 302 | 307) {
            with(&mut refused, "location", self.dice.choose(&["/v2/", "/v2/a/blobs/x", "x", "", "/token"]).as_bytes());
        }
        refused
    }
}

/// `WWW-Authenticate`, more or less.
fn challenge(address: &str, dice: &mut Dice) -> Option<Vec<u8>> {
    let texts = [
        format!("Bearer realm=\"http://{address}/token\",service=\"here\",scope=\"repository:a:pull\""),
        format!("bearer error=\"x\", realm=http://{address}/token"),
        "Basic realm=\"here\"".to_owned(),
        format!("Digest a=b, Bearer realm=\"http://{address}/token\""),
    ];
    let mut header = dice.choose(&texts).clone().into_bytes();
    if dice.one_in(2) {
        mutate(&mut header, dice, 3);
    }
    stays_here(&header, address).then_some(header)
}

/// Whether every URL in a header leads to the server itself, however it is read.
fn stays_here(header: &[u8], address: &str) -> bool {
    let own = format!("://{address}/");
    let text = String::from_utf8_lossy(header).to_ascii_lowercase();
    let urls = text.match_indices("http").all(|(at, _)| text[at + 4..].starts_with(&own));
    urls && !text.contains(['\\', '\t'])
}

fn answer(code: u16, body: Vec<u8>) -> Answer {
    Response::builder().status(code).body(Full::new(body.into())).unwrap()
}

/// What is no header is left out.
fn with(answer: &mut Answer, name: &'static str, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

async fn serve(listener: TcpListener, registry: Arc<Mutex<Registry>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // or each answer waits for the client to acknowledge its head
        let _ = stream.set_nodelay(true);
        let registry = registry.clone();
        let service = service_fn(move |request| {
            let answer = registry.lock().unwrap().answer(&request);
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // the client hangs up when it likes
            let _ = served.await;
        });
    }
}

async fn pull(store: &Store, dice: &mut Dice) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let name = format!("{address}/a:1");
    let auth = match dice.below(3) {
        0 => None,
        1 => Some(Auth::Basic { username: "me".into(), password: "secret".into() }),
        _ => Some(Auth::Token(String::from_utf8_lossy(&dice.bytes(20)).into_owned())),
    };
    let server = tokio::spawn(serve(listener, Arc::new(Mutex::new(Registry::new(&address, dice)))));
    let pulled = store.pull(&name, auth.as_ref(), Progress::none()).await;
    server.abort();
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), usize::from(pulled.is_ok()), "{pulled:?} {listed:?}");
}

pub(super) fn pulls_are_images_or_errors(dice: &mut Dice) {
    let cage = Cage::new();
    let limits = Limits { retries: 0, parallel: 1, ..limits() };
    let store = Store::open(&cage.root().join("store"), Config { limits, ..Config::default() }).unwrap();
    ended("a pull", pull(&store, dice));
    cage.assert_untouched();
}
