//! `get` and `list`.
//!
//! Must not know: any kind.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use pintle_api::fields;
use pintle_api::kinds::Kind;
use pintle_api::selector::{FieldSelector, LabelSelector};
use pintle_api::status::Status;
use serde_json::{Value, json};

use crate::cache::{Cache, Listing, Stored};
use crate::call::{Call, List, Reply};
use crate::conversion;
use crate::render::shape;
use crate::request::ListOptions;
use crate::server::ApiServer;

/// How long a list may be continued as it was, in seconds: as long as etcd's history is kept under upstream.
const LASTS: i64 = 300;

/// How long a read may wait for the cache to see the revision it asks for.
const CATCH_UP: Duration = Duration::from_secs(3);

pub async fn get(server: &Arc<ApiServer>, call: &Call) -> Result<Reply, Status> {
    let cache = server.cache(call.kind)?;
    let asked = call.query.get("resourceVersion").unwrap_or_default();
    if !matches!(asked, "" | "0") {
        cache.at_least(parse_version(asked)?, CATCH_UP).await?;
    }
    let name = call.info.name.as_str();
    let object = cache.get(call.namespace(), name).ok_or_else(|| call.not_found(name))?;
    Ok(Reply::Stored { code: 200, object })
}

pub fn parse_version(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        let path = pintle_api::field::Path::new("resourceVersion");
        Status::invalid("ListOptions", "meta.k8s.io", "", &[pintle_api::field::Error::invalid(&path, text, why)])
    })
}

pub async fn list(server: &Arc<ApiServer>, call: &Call) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::new(call, &options)?;
    select(server, call, &options, &selection).await.map(Reply::List)
}

/// Which objects a list or a watch is about.
pub struct Selection {
    kind: &'static Kind,
    labels: LabelSelector,
    fields: FieldSelector,
    /// The one name that is asked for, where it is one.
    pub name: Option<String>,
    /// The namespace of the path, or the one the fields name.
    pub namespace: Option<String>,
}

impl Selection {
    pub fn new(call: &Call, options: &ListOptions) -> Result<Self, Status> {
        let labels = LabelSelector::parse(&options.label_selector).map_err(Status::bad_request)?;
        let mut fields = FieldSelector::parse(&options.field_selector).map_err(Status::bad_request)?;
        fields::check(call.kind, &mut fields).map_err(Status::bad_request)?;
        let name = match call.info.name.as_str() {
            "" => fields.requires("metadata.name").map(str::to_owned),
            name => Some(name.to_owned()),
        };
        let namespace = match call.namespace() {
            "" => fields.requires("metadata.namespace").map(str::to_owned),
            namespace => Some(namespace.to_owned()),
        };
        let namespace = namespace.filter(|_| call.kind.namespaced);
        Ok(Self { kind: call.kind, labels, fields, name, namespace })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.name.is_none()
    }

    pub fn matches(&self, object: &Stored) -> bool {
        self.name.as_deref().is_none_or(|name| *object.name == *name)
            && self.labels.matches_with(|key| object.label(key))
            && self.has_fields(object)
    }

    /// Whether it looks into custom resources, of which every version has fields of its own.
    pub fn reads_objects(&self) -> bool {
        self.kind.custom.is_some() && !self.fields.is_everything()
    }

    fn has_fields(&self, object: &Stored) -> bool {
        if !self.reads_objects() {
            return self.fields.matches_with(|key| object.field(key));
        }
        // what cannot be read as the version that is asked for matches nothing in it
        let Ok(value) = shape::of_stored(self.kind, object) else { return false };
        let known = fields::selectable(self.kind, &value);
        self.fields.matches_with(|key| known.iter().find(|(name, _)| *name == key).map(|(_, text)| text.as_str()))
    }
}

/// The objects of the call's kind that `selection` picks, a page of them where `options` ask for one.
pub async fn select(
    server: &Arc<ApiServer>,
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
) -> Result<List, Status> {
    let cache = server.cache(call.kind)?;
    let namespace = selection.namespace.as_deref();
    let now = Timestamp::now().as_second();
    let listing = match Token::of(options)? {
        Some(Token { revision: None, after, .. }) => {
            let current = cache.list(None).revision;
            cache.list_from(namespace, current, &after).await?
        }
        Some(Token { revision: Some(revision), after, issued }) => {
            let listing = cache.list_from(namespace, revision, &after).await;
            match listing {
                Ok(listing) if now.saturating_sub(issued) <= LASTS => listing,
                _ => return Err(expired(&after)),
            }
        }
        None => {
            wait_for(&cache, options).await?;
            cache.list(namespace)
        }
    };
    if selection.reads_objects() {
        conversion::prepare(server, call.kind, listing.items.iter()).await?;
    }
    Ok(cut(listing, selection, options.limit, now))
}

async fn wait_for(cache: &Cache, options: &ListOptions) -> Result<(), Status> {
    let asked = match options.resource_version.as_str() {
        "" => 0,
        text => parse_version(text)?,
    };
    if asked > 0 { cache.at_least(asked, CATCH_UP).await } else { Ok(()) }
}

/// Upstream's 410, with a token that goes on from there among what is there now.
fn expired(after: &str) -> Status {
    let token = Token { revision: None, after: after.to_owned(), issued: 0 };
    Status {
        continue_token: Some(token.text()),
        ..Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        )
    }
}

/// What is selected, up to `limit`, and where to go on.
fn cut(listing: Listing, selection: &Selection, limit: usize, now: i64) -> List {
    let Listing { revision, items } = listing;
    let total = items.len();
    let mut found = List { revision, items: Vec::new(), continue_token: None, remaining: None };
    if selection.is_everything() && limit == 0 {
        return List { items, ..found };
    }
    for (index, item) in items.into_iter().enumerate() {
        if !selection.matches(&item) {
            continue;
        }
        if limit > 0 && found.items.len() == limit {
            found.continue_token = found.items.last().map(|last| Token::new(revision, last, now).text());
            // with a selector nobody knows how many are left without looking
            found.remaining = selection.is_everything().then_some((total - index) as u64);
            break;
        }
        found.items.push(item);
    }
    found
}

/// Where a list goes on: everything after a key, at the first page's revision. Clients pass it back unread.
struct Token {
    /// None: as it is by then.
    revision: Option<u64>,
    after: String,
    /// When, in seconds.
    issued: i64,
}

impl Token {
    fn new(revision: u64, last: &Stored, now: i64) -> Self {
        Self { revision: Some(revision), after: last.key.to_string(), issued: now }
    }

    fn text(&self) -> String {
        let revision = self.revision.map_or(json!(-1), |revision| json!(revision));
        let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": self.after, "at": self.issued });
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn of(options: &ListOptions) -> Result<Option<Self>, Status> {
        if options.continue_token.is_empty() {
            return Ok(None);
        }
        if !matches!(options.resource_version.as_str(), "" | "0") {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(why));
        }
        let token = Self::parse(&options.continue_token);
        token.map(Some).ok_or_else(|| Status::bad_request("continue key is not valid: encoded value is invalid"))
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let token: Value = serde_json::from_slice(&bytes).ok()?;
        let after = token["start"].as_str()?.to_owned();
        let revision = match token["rv"].as_i64()? {
            -1 => None,
            revision => Some(u64::try_from(revision).ok()?),
        };
        let issued = token["at"].as_i64().unwrap_or(0);
        (token["v"] == "meta.k8s.io/v1").then_some(Self { revision, after, issued })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_client_and_garbage_does_not() {
        for revision in [Some(7), None] {
            let text = Token { revision, after: "/registry/core/pods/a/b".to_owned(), issued: 5 }.text();
            let token = Token::parse(&text).unwrap();
            assert_eq!((token.revision, token.after.as_str(), token.issued), (revision, "/registry/core/pods/a/b", 5));
        }
        assert!(Token::parse("eyJ2Ijox").is_none());
    }
}
