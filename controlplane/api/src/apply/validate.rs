//! Whether an applied configuration fits the schema, in the words of `structured-merge-diff`.
//!
//! Must not know: managers, or whether values are valid.

use serde_json::Value;

use super::schema::{Kind, item_element};
use super::set::shown;
use crate::facts::{Elem, Shape, Type};

type Result<T = ()> = std::result::Result<T, String>;

/// Every field is declared and of the right JSON type, and no list has an item twice.
pub(super) fn validate(config: &Value, ty: &'static Type) -> Result {
    fields(config, ty, "")
}

fn fields(value: &Value, ty: &'static Type, path: &str) -> Result {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return Ok(()),
        other => return Err(format!("{path}: expected map, got {}", described(other))),
    };
    for (name, value) in map {
        let below = format!("{path}.{name}");
        if ty.open && ty.field(name).is_none() {
            continue;
        }
        let field = ty.field(name).ok_or_else(|| format!("{below}: field not declared in schema"))?;
        elem(value, &field.elem, &below)?;
        if let (Kind::Items(keys, item), Value::Array(items)) = (Kind::of_field(field), value) {
            unique(keys, item, items, &below)?;
        }
    }
    Ok(())
}

fn elem(value: &Value, elem: &'static Elem, path: &str) -> Result {
    match (&elem.shape, value) {
        (_, Value::Null) => Ok(()),
        (Shape::Struct(ty), _) => fields(value, ty, path),
        (Shape::List(item), Value::Array(items)) => {
            items.iter().enumerate().try_for_each(|(at, value)| self::elem(value, item, &format!("{path}[{at}]")))
        }
        (Shape::Map(item), Value::Object(map)) => {
            map.iter().try_for_each(|(key, value)| self::elem(value, item, &format!("{path}.{key}")))
        }
        (Shape::List(_), other) => Err(format!("{path}: expected list, got {}", described(other))),
        (Shape::Map(_), other) => Err(format!("{path}: expected map, got {}", described(other))),
        (shape, value) => scalar(shape, value, path),
    }
}

fn scalar(shape: &Shape, value: &Value, path: &str) -> Result {
    let (fits, wanted) = match shape {
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => {
            (value.is_string(), "string")
        }
        Shape::Bool => (value.is_boolean(), "boolean"),
        Shape::Int32 | Shape::Int64 | Shape::Uint8 => (value.is_number(), "numeric (int or float)"),
        Shape::Float64 => (value.is_number(), "numeric (int or float)"),
        _ => (true, ""),
    };
    if fits { Ok(()) } else { Err(format!("{path}: expected {wanted}, got {}", described(value))) }
}

fn unique(keys: &[&'static str], item: &'static Elem, items: &[Value], path: &str) -> Result {
    let mut seen = std::collections::BTreeSet::new();
    for (at, value) in items.iter().enumerate() {
        let element = item_element(keys, item, value).map_err(|why| format!("{path}: element {at}: {why}"))?;
        if seen.contains(&element) {
            return Err(format!("{path}: duplicate entries for key {}", shown(&[&element])));
        }
        seen.insert(element);
    }
    Ok(())
}

/// As structured-merge-diff prints a value.
fn described(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{v}")).collect();
            format!("&{{map[{}]}}", pairs.join(" "))
        }
        other => format!("&value.valueUnstructured{{Value:{other}}}"),
    }
}
