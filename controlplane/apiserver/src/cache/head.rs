//! What the cache reads of an object without parsing all of it: labels, selectable fields, and where the
//! resourceVersion goes.
//!
//! Must not know: what labels and fields are for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use pintle_api::fields::selectable;
use pintle_api::kinds::Kind;
use serde_json::Value;
use serde_json::value::RawValue;

/// One level of an object: its fields, unparsed.
type Level<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Selectable fields with their values, as `pintle_api::fields::selectable` has them.
pub type Fields = Box<[(&'static str, String)]>;

pub type Labels = Box<[(Box<str>, Box<str>)]>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// In key order.
    pub labels: Labels,
    pub fields: Fields,
    /// The offset in the JSON at which resourceVersion belongs, and whether a comma goes before or after it.
    pub splice: Option<Splice>,
    /// Where in the JSON the metadata is.
    pub metadata: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splice {
    After(usize),
    Before(usize),
    /// The metadata is empty.
    Alone(usize),
}

impl Head {
    /// `None` if `json` is no object with metadata. `kind` is given where it has selectable fields.
    pub fn parse(json: &str, kind: Option<&Kind>) -> Option<Self> {
        let top: Level<'_> = serde_json::from_str(json).ok()?;
        let metadata = top.get("metadata")?;
        let meta: Level<'_> = serde_json::from_str(metadata.get()).ok()?;
        let labels: Option<BTreeMap<String, String>> =
            meta.get("labels").and_then(|labels| serde_json::from_str(labels.get()).ok()).flatten();
        let labels = labels.into_iter().flatten().map(|(key, value)| (key.into(), value.into())).collect();
        let fields = kind.map(|kind| fields(kind, &top)).unwrap_or_default();
        let start = offset(json, metadata);
        let place = start..start + metadata.get().len();
        Some(Self { labels, fields, splice: Some(splice(json, metadata, &meta)), metadata: place })
    }
}

/// Whether objects of the kind can be selected by more than name and namespace.
pub fn is_selectable(kind: &Kind) -> bool {
    !own(selectable(kind, &Value::Null)).is_empty()
}

fn fields(kind: &Kind, top: &Level<'_>) -> Fields {
    let parsed = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_default();
    let rest = top.iter().filter(|(name, _)| *name != "metadata");
    let object = rest.map(|(name, raw)| (name.to_string(), parsed(raw))).collect();
    own(selectable(kind, &Value::Object(object)))
}

/// Without name and namespace, which every object has beside its fields.
fn own(mut fields: Vec<(&'static str, String)>) -> Fields {
    fields.retain(|(path, _)| !path.starts_with("metadata."));
    fields.into()
}

/// Upstream's order of metadata has resourceVersion after these.
const BEFORE: [&str; 5] = ["name", "generateName", "namespace", "selfLink", "uid"];

/// Raw values borrow from `json`, so their distance from its start is their offset.
fn offset(json: &str, raw: &RawValue) -> usize {
    raw.get().as_ptr() as usize - json.as_ptr() as usize
}

fn splice(json: &str, metadata: &RawValue, meta: &Level<'_>) -> Splice {
    let end = BEFORE.iter().filter_map(|name| meta.get(*name)).map(|raw| offset(json, raw) + raw.get().len()).max();
    let start = offset(json, metadata) + 1;
    match end {
        Some(end) => Splice::After(end),
        None if meta.is_empty() => Splice::Alone(start),
        None => Splice::Before(start),
    }
}

/// `json` with `"resourceVersion":"<revision>"` in its metadata.
pub fn spliced(json: &[u8], splice: Splice, revision: u64) -> Vec<u8> {
    let (at, before, after) = match splice {
        Splice::After(at) => (at, ",", ""),
        Splice::Before(at) => (at, "", ","),
        Splice::Alone(at) => (at, "", ""),
    };
    let (head, tail) = json.split_at_checked(at).unwrap_or((json, &[]));
    let mut digits = itoa::Buffer::new();
    let parts = [head, before.as_bytes(), b"\"resourceVersion\":\"", digits.format(revision).as_bytes(), b"\""];
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + after.len() + tail.len());
    for part in parts.into_iter().chain([after.as_bytes(), tail]) {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields_are_read_and_absent_ones_are_empty() {
        let json = json!({
            "metadata": { "labels": { "b": "2", "a": "\u{e9}\n" } },
            "spec": { "nodeName": "n1", "hostNetwork": true },
        });
        let pods = pintle_api::kinds::find("", "v1", "pods").unwrap();
        let head = Head::parse(&json.to_string(), Some(pods)).unwrap();
        assert_eq!(*head.labels, [("a".into(), "\u{e9}\n".into()), ("b".into(), "2".into())]);
        let field = |path| head.fields.iter().find(|(other, _)| *other == path).map(|(_, value)| value.as_str());
        assert_eq!((field("spec.nodeName"), field("spec.hostNetwork")), (Some("n1"), Some("true")));
        assert_eq!((field("status.phase"), field("metadata.name"), field("type")), (Some(""), None, None));
    }

    #[test]
    fn the_resource_version_stands_where_upstream_writes_it() {
        let cases = [
            (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            (
                r#"{"kind":"X","metadata":{"name":"a","uid":"u","generation":1},"spec":{}}"#,
                r#"{"kind":"X","metadata":{"name":"a","uid":"u","resourceVersion":"7","generation":1},"spec":{}}"#,
            ),
            (r#"{"metadata":{"labels":{"a":"b"}}}"#, r#"{"metadata":{"resourceVersion":"7","labels":{"a":"b"}}}"#),
        ];
        for (json, expected) in cases {
            let head = Head::parse(json, None).unwrap();
            let out = spliced(json.as_bytes(), head.splice.unwrap(), 7);
            assert_eq!(str::from_utf8(&out).unwrap(), expected);
            serde_json::from_slice::<Value>(&out).unwrap();
        }
    }

    #[test]
    fn what_is_no_object_has_no_head() {
        for json in ["", "[]", "{}", r#"{"metadata":null}"#, r#"{"metadata":1}"#, "{\"metadata\":{\"name\":\"a\"}"] {
            assert_eq!(Head::parse(json, None), None, "{json}");
        }
    }
}
