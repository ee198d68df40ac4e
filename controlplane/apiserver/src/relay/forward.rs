//! A request for `…/proxy` as the other end gets it, and its answer as the client does: hop-by-hop headers stay behind,
//! links lead through the proxy.
//! Sources: `k8s.io/apimachinery/pkg/util/proxy`, Go's `httputil.ReverseProxy`.
//!
//! Must not know: connections, or how the other end is found.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::html::Rewriter;
use super::links::Around;
use crate::body::{Body, request_body};
use crate::handler::PeerAddress;

/// How much of a compressed page is opened at once: a small one may hold a thousand times as much.
const MORSEL: usize = 4 * 1024;

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Answers of pods are not to speak for the API server.
const CORS: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What follows `…/proxy` in the path, as it came, with its query.
pub fn rest(parts: &Parts, segments: usize) -> String {
    let path = parts.uri.path();
    let after = tail(path, segments);
    let path = if after.is_empty() { "/" } else { after };
    parts.uri.query().map_or(path.to_owned(), |query| format!("{path}?{query}"))
}

/// What follows the first `segments` segments of a path, with its slash.
fn tail(path: &str, segments: usize) -> &str {
    let mut rest = path.trim_start_matches('/');
    for _ in 1..segments {
        rest = rest.split_once('/').map_or("", |(_, after)| after);
    }
    rest.find('/').map_or("", |at| &rest[at..])
}

/// The part of the path that names the proxy: what links are to begin with.
pub fn prefix(parts: &Parts, segments: usize) -> String {
    let path = parts.uri.path();
    path[..path.len() - tail(path, segments).len()].to_owned()
}

/// Browsers need a slash at the end, or relative links lead elsewhere.
pub fn redirect(parts: &Parts, segments: usize) -> Option<Response<Body>> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if !reads || !tail(parts.uri.path(), segments).is_empty() {
        return None;
    }
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{}/{query}", parts.uri.path())).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

/// The host that the client asked.
pub fn asked(parts: &Parts) -> String {
    let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    named.or(parts.uri.authority().map(|it| it.as_str())).unwrap_or_default().to_owned()
}

/// The client's headers without its credentials and without what is the connection's; those of an upgrade stay.
pub fn headers(parts: &Parts, upgrades: bool) -> HeaderMap {
    let named = named_by_connection(&parts.headers);
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        let private = *name == AUTHORIZATION || *name == HOST || name.as_str().starts_with("impersonate-");
        let upgrade = upgrades && (*name == CONNECTION || *name == UPGRADE);
        let hop = HOP_BY_HOP.contains(&name.as_str()) || named.contains(name);
        if !private && (upgrade || !hop) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(PeerAddress(address)) = parts.extensions.get::<PeerAddress>() {
        let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = before.map(str::to_owned).chain([address.to_string()]).collect();
        if let Ok(all) = HeaderValue::from_str(&all.join(", ")) {
            headers.insert(FORWARDED_FOR, all);
        }
    }
    headers
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Leaves of an answer's headers what is neither the connection's nor this server's to say.
pub fn end_to_end(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP.iter().chain(&CORS) {
        headers.remove(*name);
    }
}

/// The answer with its links and its `Location` leading through the proxy.
pub fn answer(response: Response<Incoming>, around: Around, has_body: bool) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    end_to_end(&mut parts.headers);
    if lead_location(&mut parts.headers, &around) {
        return Response::from_parts(parts, Body::Relayed(request_body(body)));
    }
    let coding = Coding::of(&parts.headers);
    match coding.filter(|_| has_body && is_html(&parts.headers)) {
        None => Response::from_parts(parts, Body::Relayed(request_body(body))),
        Some(coding) => {
            parts.headers.remove(CONTENT_LENGTH);
            Response::from_parts(parts, page(body, coding, around))
        }
    }
}

/// Whether there is a `Location`, which then leads through the proxy.
fn lead_location(headers: &mut HeaderMap, around: &Around) -> bool {
    let Some(location) = headers.get(LOCATION) else { return false };
    let changed = location.to_str().ok().and_then(|location| around.changed(location));
    if let Some(changed) = changed.and_then(|changed| HeaderValue::from_str(&changed).ok()) {
        headers.insert(LOCATION, changed);
    }
    true
}

fn is_html(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content.split(';').next().unwrap_or_default().trim() == "text/html"
}

/// How a page is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// `None` for one that is not known here: such pages stay as they are.
    fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"") => Some(Self::Identity),
            Some(b"gzip") => Some(Self::Gzip),
            Some(b"deflate") => Some(Self::Deflate),
            Some(_) => None,
        }
    }
}

/// The page as it comes, a piece at a time. One that breaks off ends there: its client sees that by the missing end.
fn page(body: Incoming, coding: Coding, around: Around) -> Body {
    let rewriter = Rewriter::new(move |address: &str| around.changed(address));
    let pieces = body.into_data_stream();
    let begun = (Box::pin(pieces), Bytes::new(), Some(Pipe::new(coding, rewriter)));
    let stream = futures::stream::unfold(begun, |(mut pieces, mut waiting, pipe)| async move {
        use futures::StreamExt as _;
        let mut pipe = pipe?;
        loop {
            if waiting.is_empty() {
                match pieces.next().await {
                    Some(Ok(piece)) => waiting = piece,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a proxied page broke off");
                        return None;
                    }
                    None => return Some((pipe.finish().ok()?.into(), (pieces, waiting, None))),
                }
            }
            let morsel = waiting.split_to(waiting.len().min(MORSEL));
            let out =
                pipe.push(&morsel).inspect_err(|error| tracing::debug!(%error, "a proxied page is broken")).ok()?;
            if !out.is_empty() {
                return Some((Bytes::from(out), (pieces, waiting, Some(pipe))));
            }
        }
    });
    Body::Stream(Box::pin(stream))
}

/// Opens, rewrites, packs again.
struct Pipe<F> {
    rewriter: Rewriter<F>,
    ends: Ends,
}

enum Ends {
    Identity,
    Gzip(GzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>, DeflateEncoder<Vec<u8>>),
}

impl<F: Fn(&str) -> Option<String>> Pipe<F> {
    fn new(coding: Coding, rewriter: Rewriter<F>) -> Self {
        let ends = match coding {
            Coding::Identity => Ends::Identity,
            Coding::Gzip => Ends::Gzip(GzDecoder::new(vec![]), GzEncoder::new(vec![], Compression::default())),
            Coding::Deflate => {
                Ends::Deflate(DeflateDecoder::new(vec![]), DeflateEncoder::new(vec![], Compression::best()))
            }
        };
        Self { rewriter, ends }
    }

    fn push(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        let rewriter = &mut self.rewriter;
        match &mut self.ends {
            Ends::Identity => Ok(rewriter.push(piece)),
            Ends::Gzip(from, to) => {
                from.write_all(piece)?;
                to.write_all(&rewriter.push(&std::mem::take(from.get_mut())))?;
                Ok(std::mem::take(to.get_mut()))
            }
            Ends::Deflate(from, to) => {
                from.write_all(piece)?;
                to.write_all(&rewriter.push(&std::mem::take(from.get_mut())))?;
                Ok(std::mem::take(to.get_mut()))
            }
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        let mut rewriter = self.rewriter;
        match self.ends {
            Ends::Identity => Ok(rewriter.finish()),
            Ends::Gzip(from, mut to) => {
                to.write_all(&rewriter.push(&from.finish()?))?;
                to.write_all(&rewriter.finish())?;
                to.finish()
            }
            Ends::Deflate(from, mut to) => {
                to.write_all(&rewriter.push(&from.finish()?))?;
                to.write_all(&rewriter.finish())?;
                to.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str) -> Parts {
        Request::builder().uri(uri).header("host", "h:1").body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_follows_is_passed_on_as_it_came() {
        let it = parts("/api/v1/namespaces/a/pods/p/proxy/x%2Fy//z/?a=%20&b");
        assert_eq!(rest(&it, 7), "/x%2Fy//z/?a=%20&b");
        assert_eq!(prefix(&it, 7), "/api/v1/namespaces/a/pods/p/proxy");
        assert_eq!(rest(&parts("/api/v1/nodes/n/proxy?a=b"), 5), "/?a=b");
        assert_eq!(rest(&parts("/api/v1/nodes/n/proxy/"), 5), "/");
    }

    #[test]
    fn only_who_reads_without_a_slash_is_sent_there() {
        let sent = redirect(&parts("/api/v1/nodes/n/proxy?a=b"), 5).unwrap();
        assert_eq!(
            (sent.status().as_u16(), &sent.headers()[LOCATION]),
            (301, &HeaderValue::from_static("/api/v1/nodes/n/proxy/?a=b"))
        );
        assert!(redirect(&parts("/api/v1/nodes/n/proxy/"), 5).is_none());
        let mut writes = parts("/api/v1/nodes/n/proxy");
        writes.method = Method::POST;
        assert!(redirect(&writes, 5).is_none());
    }

    #[test]
    fn credentials_and_the_connections_own_stay_behind() {
        let mut it = parts("/x");
        for (name, value) in [("authorization", "Bearer x"), ("connection", "x-own, upgrade"), ("upgrade", "websocket")]
        {
            it.headers.insert(name, HeaderValue::from_static(value));
        }
        it.headers.insert("x-own", HeaderValue::from_static("1"));
        it.headers.insert("x-other", HeaderValue::from_static("2"));
        it.extensions.insert(PeerAddress([192, 0, 2, 7].into()));
        let names = |upgrades| headers(&it, upgrades).keys().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(false), ["x-other", "x-forwarded-for"]);
        assert_eq!(names(true), ["connection", "upgrade", "x-other", "x-forwarded-for"]);
    }

    #[test]
    fn a_redirect_leads_through_the_proxy_and_nowhere_else() {
        let around = Around { prefix: "/p/proxy".to_owned(), backend: "10.0.0.1:80".to_owned(), asked: "h".to_owned() };
        let mut headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/x"))]);
        assert!(lead_location(&mut headers, &around));
        assert_eq!(headers.get_all(LOCATION).iter().collect::<Vec<_>>(), ["/p/proxy/x"]);
        assert!(!lead_location(&mut HeaderMap::new(), &around));
    }

    #[test]
    fn who_asks_is_added_to_who_asked_before() {
        let mut it = parts("/x");
        it.headers.insert(FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        it.extensions.insert(PeerAddress([192, 0, 2, 7].into()));
        let headers = headers(&it, false);
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>(), ["192.0.2.1, 192.0.2.7"]);
    }

    #[test]
    fn a_packed_page_is_opened_changed_and_packed_again() {
        let mut packed = GzEncoder::new(vec![], Compression::default());
        packed.write_all(b"<a href='/x'>x</a>").unwrap();
        let rewriter = Rewriter::new(|link: &str| Some(format!("/p{link}")));
        let mut pipe = Pipe::new(Coding::Gzip, rewriter);
        let mut out = Vec::new();
        for byte in packed.finish().unwrap() {
            out.extend(pipe.push(&[byte]).unwrap());
        }
        out.extend(pipe.finish().unwrap());
        let mut page = GzDecoder::new(vec![]);
        page.write_all(&out).unwrap();
        assert_eq!(page.finish().unwrap(), b"<a href='/p/x'>x</a>");
    }
}
