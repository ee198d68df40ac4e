//! `get` and `list`.
//!
//! Must not know: any kind.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pintle_api::fields;
use pintle_api::selector::{FieldSelector, LabelSelector};
use pintle_api::status::Status;
use serde_json::{Value, json};

use crate::cache::{Cache, Listing, Stored};
use crate::call::{Call, List, Reply};
use crate::request::ListOptions;
use crate::server::ApiServer;

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
        Ok(Self { labels, fields, name, namespace })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.name.is_none()
    }

    pub fn matches(&self, object: &Stored) -> bool {
        self.name.as_deref().is_none_or(|name| *object.name == *name)
            && self.labels.matches_with(|key| object.label(key))
            && self.fields.matches_with(|key| object.field(key))
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
    let listing = match Token::of(options)? {
        Some(token) => cache.list_from(namespace, token.revision, &token.after).await?,
        None => {
            wait_for(&cache, options).await?;
            cache.list(namespace)
        }
    };
    Ok(cut(listing, selection, options.limit))
}

async fn wait_for(cache: &Cache, options: &ListOptions) -> Result<(), Status> {
    let asked = match options.resource_version.as_str() {
        "" => 0,
        text => parse_version(text)?,
    };
    if asked > 0 { cache.at_least(asked, CATCH_UP).await } else { Ok(()) }
}

/// What is selected, up to `limit`, and where to go on.
fn cut(listing: Listing, selection: &Selection, limit: usize) -> List {
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
            found.continue_token = found.items.last().map(|last| Token::new(revision, last).text());
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
    revision: u64,
    after: String,
}

impl Token {
    fn new(revision: u64, last: &Stored) -> Self {
        Self { revision, after: last.key.to_string() }
    }

    fn text(&self) -> String {
        let token = json!({ "v": "meta.k8s.io/v1", "rv": self.revision, "start": self.after });
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
        (token["v"] == "meta.k8s.io/v1").then_some(Self { revision: token["rv"].as_u64()?, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_client_and_garbage_does_not() {
        let text = Token { revision: 7, after: "/registry/core/pods/a/b".to_owned() }.text();
        let token = Token::parse(&text).unwrap();
        assert_eq!((token.revision, token.after.as_str()), (7, "/registry/core/pods/a/b"));
        assert!(Token::parse("eyJ2Ijox").is_none());
    }
}
