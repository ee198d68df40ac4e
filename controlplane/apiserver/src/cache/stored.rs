//! One object at one revision, as every reader shares it.
//!
//! Must not know: where it came from.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use pintle_api::kinds::Kind;
use serde_json::Value;

use super::head::{Fields, Head, Labels, spliced};

/// Never changes; a new revision is a new one.
#[derive(Debug)]
pub struct Stored {
    pub key: Arc<str>,
    /// Empty for what lives in no namespace.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub revision: u64,
    /// Canonical JSON, `metadata.resourceVersion` included.
    pub json: Bytes,
    /// Where in `json` the metadata is.
    metadata: Range<u32>,
    labels: Labels,
    fields: Fields,
    faces: Faces,
}

/// What conversion webhooks made of an object: few objects have any.
type Faces = OnceLock<Box<Mutex<Vec<(&'static Kind, Arc<Value>)>>>>;

/// How many of them are kept: a definition that changes makes kinds anew.
const MOST_FACES: usize = 16;

impl Stored {
    /// From the JSON without resourceVersion. `kind` is given where it has selectable fields.
    pub(super) fn new(key: Arc<str>, revision: u64, json: &Bytes, kind: Option<&Kind>) -> Self {
        let head = str::from_utf8(json).ok().and_then(|json| Head::parse(json, kind)).unwrap_or_default();
        let unspliced = json.len();
        let json: Bytes = match head.splice {
            Some(splice) => spliced(json, splice, revision).into(),
            None => {
                tracing::error!(%key, "an object in the store has no metadata");
                json.clone()
            }
        };
        // what was spliced in is in the metadata; requests are bounded, so an offset is a u32
        let end = head.metadata.end + (json.len() - unspliced);
        let metadata = head.metadata.start as u32..end as u32;
        let (namespace, name) = names(&key);
        Self {
            namespace: namespace.into(),
            name: name.into(),
            key,
            revision,
            json,
            metadata,
            labels: head.labels,
            fields: head.fields,
            faces: Faces::new(),
        }
    }

    /// The object's tree, parsed anew each time.
    pub fn value(&self) -> Value {
        // unreadable JSON was reported when it came in
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// The object as a webhook converted it for `kind`.
    pub fn face(&self, kind: &Kind) -> Option<Arc<Value>> {
        let faces = self.faces.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        faces.iter().find(|(of, _)| std::ptr::eq(*of, kind)).map(|(_, face)| face.clone())
    }

    pub fn keep_face(&self, kind: &'static Kind, face: Value) {
        let mut faces = self.faces.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner);
        if faces.len() >= MOST_FACES {
            faces.clear();
        }
        faces.push((kind, Arc::new(face)));
    }

    /// The JSON of the metadata, which is part of the object's.
    pub fn metadata(&self) -> Bytes {
        let (start, end) = (self.metadata.start as usize, self.metadata.end as usize);
        // empty where the object has no metadata, which was reported when it came in
        if end <= self.json.len() { self.json.slice(start..end) } else { Bytes::new() }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        self.labels.get(at).map(|(_, value)| &**value)
    }

    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    /// A selectable field; `None` if the kind does not have it, empty if the object does not.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => self.fields.iter().find(|(other, _)| *other == path).map(|(_, value)| value.as_str()),
        }
    }
}

/// The namespace and name at the end of `/registry/<group>/<plural>/[<namespace>/]<name>`.
fn names(key: &str) -> (&str, &str) {
    let rest = key.splitn(5, '/').nth(4).unwrap_or_default();
    rest.split_once('/').unwrap_or(("", rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_namespace_and_name() {
        assert_eq!(names("/registry/core/pods/default/a"), ("default", "a"));
        assert_eq!(names("/registry/rbac.authorization.k8s.io/clusterroles/system:node"), ("", "system:node"));
    }
}
