//! One request for a resource, authenticated and read, as the verbs get it; and what they answer.
//!
//! Must not know: how a verb is carried out, or how the answer is written.

use std::sync::Arc;

use http::{HeaderMap, Response};
use parking_lot::Mutex;
use pintle_api::kinds::Kind;
use pintle_api::status::Status;
use serde_json::Value;

use crate::auth::UserInfo;
use crate::body::Body;
use crate::cache::Stored;
use crate::negotiate::Accepted;
use crate::request::{Query, RequestInfo};

pub struct Call {
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub user: UserInfo,
    pub accepted: Accepted,
    pub kind: &'static Kind,
    pub warnings: Warnings,
}

impl Call {
    /// What the server does by itself, through the front door all the same.
    pub fn internal(kind: &'static Kind, verb: &str, namespace: &str, name: &str) -> Self {
        let info = RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        Self {
            info,
            query: Query::default(),
            headers: HeaderMap::new(),
            user: UserInfo::apiserver(),
            accepted: Accepted::default(),
            kind,
            warnings: Warnings::default(),
        }
    }

    /// The namespace that objects of the request's kind are kept under.
    pub fn namespace(&self) -> &str {
        if self.kind.namespaced { &self.info.namespace } else { "" }
    }

    pub fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(self.kind.plural, self.kind.group, name)
    }

    /// Who is written down as the manager of the fields: what the client said, or its user agent's first word.
    pub fn manager(&self, said: &str) -> String {
        if !said.is_empty() {
            return said.to_owned();
        }
        let agent = self.header(http::header::USER_AGENT);
        let first = agent.split('/').next().unwrap_or_default();
        first.chars().filter(|c| !c.is_control()).take(128).collect()
    }
}

/// What the client is told beside the answer (the `Warning` header). Bounded, as upstream bounds it.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    const MOST: usize = 64;

    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock();
        if all.len() < Self::MOST && !all.contains(&text) {
            all.push(text);
        }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// What a verb answers; `render` gives it the form the client wants.
pub enum Reply {
    /// An object as it is stored.
    Stored {
        code: u16,
        object: Arc<Stored>,
    },
    /// An object of `kind` that is not stored in this form.
    Value {
        code: u16,
        value: Value,
    },
    List(List),
    /// Already a response.
    Http(Response<Body>),
}

/// Part of a resource's objects at one revision.
pub struct List {
    pub revision: u64,
    pub items: Vec<Arc<Stored>>,
    pub continue_token: Option<String>,
    pub remaining: Option<u64>,
}
