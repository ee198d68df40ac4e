//! Strict decoding: which fields of a request are unknown or given twice (`fieldValidation=Strict` and `Warn`).
//!
//! Must not know: what becomes of the findings.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::facts::{Elem, Shape, Type};

/// Upstream stops collecting there.
const MOST: usize = 100;

/// What is unknown or duplicate in `bytes`, an object of type `ty`: `unknown field "spec.foo"`, in the order found, each
/// once. What is no JSON or of the wrong type is not this function's to report: it yields what was found before.
pub fn check(bytes: &[u8], ty: &'static Type) -> Vec<String> {
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // a syntax error is reported by whoever decodes the object
    let _ = Check { expect: Expect::Struct(ty), found: &mut found }.deserialize(&mut deserializer);
    found.list
}

/// What is given twice in `bytes`, of whatever type the object is.
pub fn duplicates(bytes: &[u8]) -> Vec<String> {
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let _ = Check { expect: Expect::Untyped, found: &mut found }.deserialize(&mut deserializer);
    found.list
}

/// As [`check`] for an object that was decoded already (the result of a patch), where nothing can be duplicate.
pub fn unknown(object: &Value, ty: &'static Type) -> Vec<String> {
    let mut found = Found::default();
    walk(object, Expect::Struct(ty), &mut found);
    found.list
}

/// The findings as one error: `strict decoding error: unknown field "spec.foo", duplicate field "spec.bar"`.
pub fn message(found: &[String]) -> String {
    format!("strict decoding error: {}", found.join(", "))
}

#[derive(Default)]
struct Found {
    path: String,
    list: Vec<String>,
}

impl Found {
    fn add(&mut self, what: &str, field: &str) {
        let separator = if self.path.is_empty() { "" } else { "." };
        let finding = format!("{what} field {:?}", format!("{}{separator}{field}", self.path));
        if self.list.len() < MOST && !self.list.contains(&finding) {
            self.list.push(finding);
        }
    }

    /// Goes to a field; returns where to come back to.
    fn enter(&mut self, field: &str) -> usize {
        let back = self.path.len();
        if back > 0 {
            self.path.push('.');
        }
        self.path.push_str(field);
        back
    }

    fn enter_item(&mut self, at: usize) -> usize {
        let back = self.path.len();
        self.path.push_str(&format!("[{at}]"));
        back
    }
}

#[derive(Clone, Copy)]
enum Expect {
    Struct(&'static Type),
    List(&'static Elem),
    Map(&'static Elem),
    /// A scalar, or a type that reads itself without strictness.
    Anything,
    /// Whatever it is, no field is given twice.
    Untyped,
}

impl Expect {
    fn of(elem: &'static Elem) -> Self {
        match &elem.shape {
            Shape::Struct(ty) => Self::Struct(ty),
            Shape::List(item) => Self::List(item),
            Shape::Map(value) => Self::Map(value),
            _ => Self::Anything,
        }
    }
}

fn walk(value: &Value, expect: Expect, found: &mut Found) {
    match (expect, value) {
        (Expect::Struct(ty), Value::Object(map)) => {
            for (name, value) in map {
                match ty.field(name) {
                    None => found.add("unknown", name),
                    Some(field) => {
                        let back = found.enter(name);
                        walk(value, Expect::of(&field.elem), found);
                        found.path.truncate(back);
                    }
                }
            }
        }
        (Expect::Map(item), Value::Object(map)) => {
            for (name, value) in map {
                let back = found.enter(name);
                walk(value, Expect::of(item), found);
                found.path.truncate(back);
            }
        }
        (Expect::List(item), Value::Array(items)) => {
            for (at, value) in items.iter().enumerate() {
                let back = found.enter_item(at);
                walk(value, Expect::of(item), found);
                found.path.truncate(back);
            }
        }
        _ => {}
    }
}

/// Reads one JSON value without keeping it.
struct Check<'a> {
    expect: Expect,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.expect {
            Expect::Anything => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let inner = match self.expect {
                Expect::Struct(ty) => ty.field(&name).map(|field| Expect::of(&field.elem)),
                Expect::Map(value) => Some(Expect::of(value)),
                Expect::Untyped => Some(Expect::Untyped),
                _ => Some(Expect::Anything),
            };
            let Some(expect) = inner else {
                self.found.add("unknown", &name);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&name) {
                self.found.add("duplicate", &name);
            }
            let back = self.found.enter(&name);
            map.next_value_seed(Check { expect, found: &mut *self.found })?;
            self.found.path.truncate(back);
            seen.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let expect = match self.expect {
            Expect::List(item) => Expect::of(item),
            Expect::Untyped => Expect::Untyped,
            _ => Expect::Anything,
        };
        for at in 0.. {
            let back = self.found.enter_item(at);
            let more = items.next_element_seed(Check { expect, found: &mut *self.found })?;
            self.found.path.truncate(back);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::type_of;

    #[test]
    fn unknown_and_duplicate_fields_are_named_with_their_path() {
        let ty = type_of("apps", "v1", "Deployment").expect("known");
        let text = br#"{"kind":"Deployment","spec":{"foo":{"bar":1},"replicas":1,"replicas":2,"template":{"spec":
            {"containers":[{"name":"a","nam":"b"},{"image":"x","image":"y"}]},"metadata":{"labels":{"a":"b","a":"c"}}}},"extra":[]}"#;
        let expected = [
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.replicas""#,
            r#"unknown field "spec.template.spec.containers[0].nam""#,
            r#"duplicate field "spec.template.spec.containers[1].image""#,
            r#"duplicate field "spec.template.metadata.labels.a""#,
            r#"unknown field "extra""#,
        ];
        assert_eq!(check(text, ty), expected);
        assert_eq!(message(&check(text, ty)[..2]), format!("strict decoding error: {}, {}", expected[0], expected[1]));
    }

    #[test]
    fn names_are_case_sensitive_and_free_form_parts_are_not_looked_into() {
        let ty = type_of("apps", "v1", "ControllerRevision").expect("known");
        assert_eq!(check(br#"{"Kind":"x","data":{"a":1,"a":2}}"#, ty), [r#"unknown field "Kind""#]);
    }

    #[test]
    fn decoded_objects_are_checked_too() {
        let ty = type_of("", "v1", "Pod").expect("known");
        let pod = serde_json::json!({ "spec": { "containers": [{ "nope": 1 }], "nodeSelector": { "any": "x" } } });
        assert_eq!(unknown(&pod, ty), [r#"unknown field "spec.containers[0].nope""#]);
    }
}
