//! Which form a client sends and which it wants back: media types as upstream negotiates them.
//!
//! Must not know: any kind.

use std::cmp::Ordering;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use pintle_api::status::Status;

use crate::request::Query;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// In the order upstream prefers and lists them.
const FORMATS: [Format; 3] = [Format::Json, Format::Yaml, Format::Protobuf];

const ALL: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn matches(self, range: &str) -> bool {
        matches!(range, "*/*" | "application/*") || range == self.media_type()
    }
}

/// What to turn an object into before it is written out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum As {
    #[default]
    Object,
    Table,
    /// `PartialObjectMetadata`, or its list.
    Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub format: Format,
    pub shape: As,
    /// Of the table or the partial metadata: `meta.k8s.io/v1` or `v1beta1`.
    pub meta_version: &'static str,
    pub pretty: bool,
}

impl Default for Accepted {
    fn default() -> Self {
        Self { format: Format::Json, shape: As::Object, meta_version: "v1", pretty: false }
    }
}

impl Accepted {
    /// JSON for those who would read protobuf: of custom resources there is none.
    pub fn without_protobuf(self) -> Self {
        if self.format == Format::Protobuf { Self { format: Format::Json, ..self } } else { self }
    }
}

/// What the client wants of an endpoint that serves objects; 406 where nothing fits.
pub fn accepted(headers: &HeaderMap, query: &Query) -> Result<Accepted, Status> {
    accepted_as(headers, query, true)
}

/// As [`accepted`], of an endpoint whose objects have no other shape: what is answered on the spot.
pub fn accepted_plain(headers: &HeaderMap, query: &Query) -> Result<Accepted, Status> {
    accepted_as(headers, query, false)
}

fn accepted_as(headers: &HeaderMap, query: &Query, shapes: bool) -> Result<Accepted, Status> {
    let pretty = wants_pretty(headers, query);
    let header = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if header.is_empty() {
        return Ok(Accepted { pretty, ..Accepted::default() });
    }
    for clause in clauses(header) {
        let fitting = FORMATS.into_iter().filter(|format| format.matches(&clause.range));
        for format in fitting {
            if let Some(mut found) = clause.shape(format).filter(|it| shapes || it.shape == As::Object) {
                found.pretty |= pretty;
                return Ok(found);
            }
        }
    }
    Err(Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {ALL}")))
}

/// The form of an error: the client's where it is plain, JSON otherwise.
pub fn accepted_for_errors(headers: &HeaderMap, query: &Query) -> Accepted {
    let found = accepted(headers, query).unwrap_or_default();
    Accepted { shape: As::Object, ..found }
}

/// The form of the request's body; 415 where it is unknown. `accepts` lists what is known, for the message.
pub fn content(headers: &HeaderMap) -> Result<Format, Status> {
    let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = media_type(header);
    if media_type.is_empty() {
        return Ok(Format::Json);
    }
    FORMATS.into_iter().find(|f| f.media_type() == media_type).ok_or_else(|| unsupported(ALL))
}

/// The media type of a `Content-Type`, without its parameters.
pub fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub fn unsupported(accepts: &str) -> Status {
    let message = format!("the body of the request was in an unknown format - accepted media types include: {accepts}");
    Status::new(415, "UnsupportedMediaType", message)
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(value) = query.get("pretty").filter(|v| !v.is_empty()) {
        return matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|human| agent.starts_with(human))
}

/// One alternative of an `Accept` header.
#[derive(Debug)]
pub struct Clause {
    pub range: String,
    pub params: Vec<(String, String)>,
    q: f32,
}

impl Clause {
    pub fn param(&self, key: &str) -> &str {
        self.params.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str())
    }

    /// How this alternative is served in `format`; `None` where it cannot be.
    fn shape(&self, format: Format) -> Option<Accepted> {
        if !matches!(self.param("stream"), "" | "watch") {
            return None;
        }
        let pretty = self.param("pretty") == "1";
        let plain = Accepted { format, pretty, ..Accepted::default() };
        let kind = self.param("as");
        if kind.is_empty() && self.param("g").is_empty() && self.param("v").is_empty() {
            return Some(plain);
        }
        let meta_version = match (self.param("g"), self.param("v")) {
            ("meta.k8s.io", "v1") => "v1",
            ("meta.k8s.io", "v1beta1") => "v1beta1",
            _ => return None,
        };
        match kind {
            "Table" if format != Format::Protobuf => Some(Accepted { shape: As::Table, meta_version, ..plain }),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => {
                Some(Accepted { shape: As::Partial, meta_version, ..plain })
            }
            _ => None,
        }
    }

    fn specificity(&self) -> u8 {
        match self.range.as_str() {
            "*/*" => 0,
            range if range.ends_with("/*") => 1,
            _ => 2,
        }
    }
}

/// The alternatives, most wanted first.
pub fn clauses(header: &str) -> Vec<Clause> {
    let mut all: Vec<Clause> = header.split(',').filter_map(clause).collect();
    all.sort_by(|a, b| {
        b.q.partial_cmp(&a.q).unwrap_or(Ordering::Equal).then_with(|| b.specificity().cmp(&a.specificity()))
    });
    all
}

fn clause(text: &str) -> Option<Clause> {
    let mut parts = text.split(';');
    let range = parts.next()?.trim().to_ascii_lowercase();
    if range.is_empty() {
        return None;
    }
    let range = if range == "*" { "*/*".to_owned() } else { range };
    let mut found = Clause { range, params: Vec::new(), q: 1.0 };
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        match key {
            "q" => found.q = value.parse().unwrap_or(1.0),
            _ => found.params.push((key.to_owned(), value.to_owned())),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(header: &str) -> Result<Accepted, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header.parse().unwrap());
        accepted(&headers, &Query::default())
    }

    #[test]
    fn kubectl_get_is_served_a_table() {
        let header = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                      application/json";
        let it = accept(header).unwrap();
        assert_eq!((it.shape, it.meta_version, it.format), (As::Table, "v1", Format::Json));
    }

    #[test]
    fn an_unknown_conversion_falls_to_the_next_alternative() {
        let it = accept("application/json;as=Frame;v=v1;g=meta.k8s.io,application/yaml").unwrap();
        assert_eq!((it.shape, it.format), (As::Object, Format::Yaml));
    }

    #[test]
    fn quality_goes_before_order() {
        assert_eq!(accept("application/yaml;q=0.5,application/json").unwrap().format, Format::Json);
        assert_eq!(accept("*/*").unwrap().format, Format::Json);
    }

    #[test]
    fn nothing_that_fits_is_not_acceptable() {
        let error = accept("text/html").unwrap_err();
        assert_eq!((error.code, error.reason), (406, "NotAcceptable"));
    }

    #[test]
    fn a_body_of_an_unknown_form_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(content(&headers).unwrap_err().code, 415);
        headers.insert(CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        assert_eq!(content(&headers).unwrap(), Format::Json);
    }
}
