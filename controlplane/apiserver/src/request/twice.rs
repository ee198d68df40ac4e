//! YAML in which a map has a key twice: parsers take the last, whoever wrote it meant something else.
//!
//! Must not know: what the YAML is of.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Refuses the first key that is there twice, in the words of Go's parser (its line counts from 1). What is no YAML is
/// somebody else's to refuse.
///
/// # Errors
/// Which key, and where.
pub fn refuse_twice(yaml: &[u8]) -> Result<(), String> {
    let Err(error) = Node.deserialize(serde_yaml_ng::Deserializer::from_slice(yaml)) else { return Ok(()) };
    let text = error.to_string();
    let Some((_, key)) = text.split_once(TWICE) else { return Ok(()) };
    let key = key.rsplit_once(" at line ").map_or(key, |(key, _)| key);
    let line = error.location().map_or(0, |at| at.line());
    Err(format!("error converting YAML to JSON: yaml: unmarshal errors:\n  line {line}: key {key} already set in map"))
}

const TWICE: &str = "key that is there twice: ";

struct Node;

impl<'de> DeserializeSeed<'de> for Node {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Node)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while entries.next_key_seed(Key(&mut seen))?.is_some() {
            entries.next_value_seed(Node)?;
        }
        Ok(())
    }
}

/// A key beside those that were seen. It fails while it is read: so the error knows where.
struct Key<'s>(&'s mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) { Ok(()) } else { Err(E::custom(format_args!("{TWICE}{key:?}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_told_with_its_line() {
        assert_eq!(
            refuse_twice(b"\na: 1\nspec:\n  foo: x\n  bar: [1, {c: 2}]\n  foo: y\n").unwrap_err(),
            "error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"foo\" already set in map"
        );
        assert_eq!(refuse_twice(b"a: {foo: 1}\nb: {foo: 1}\nc: !!str 1\nd: ~\n"), Ok(()));
    }
}
