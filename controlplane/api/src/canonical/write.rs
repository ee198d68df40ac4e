//! Writing an object in Go's field order.
//!
//! Must not know: what is canonical; it writes the known fields of what it is given.

use serde_json::Value;
use smallvec::SmallVec;

use super::schema_type;
use crate::facts::{Elem, Shape, Type};

/// The JSON of `object`, fields in the order of the Go struct, map keys sorted, unknown fields left out.
pub fn to_bytes(object: &Value, ty: &'static Type) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(object, ty, &mut out);
    out
}

/// As [`to_bytes`], appended to `out`.
pub fn write(object: &Value, ty: &'static Type, out: &mut Vec<u8>) {
    let Value::Object(map) = object else { return raw(object, out) };
    let mut found: SmallVec<[(usize, &Value); 24]> = SmallVec::new();
    for (name, value) in map {
        if let Some(at) = ty.position(name) {
            found.push((at, value));
        }
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    let mut separator = b'{';
    for (at, value) in found {
        out.push(separator);
        separator = b',';
        let field = ty.fields()[at].field;
        out.push(b'"');
        // names of Go fields need no escapes
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        elem(value, &field.elem, out);
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

fn elem(value: &Value, elem: &Elem, out: &mut Vec<u8>) {
    match (&elem.shape, value) {
        (Shape::Struct(ty), Value::Object(_)) => write(value, ty, out),
        (Shape::SchemaOrArray, Value::Array(items)) => list(items, out, schema),
        (Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStringArray, Value::Object(_)) => {
            schema(value, out)
        }
        (Shape::List(item), Value::Array(items)) => list(items, out, |value, out| self::elem(value, item, out)),
        (Shape::Map(item), Value::Object(map)) => {
            let mut separator = b'{';
            for (key, value) in map {
                out.push(separator);
                separator = b',';
                text(key, out);
                out.push(b':');
                self::elem(value, item, out);
            }
            if separator == b'{' {
                out.push(b'{');
            }
            out.push(b'}');
        }
        (_, Value::String(value)) => text(value, out),
        _ => raw(value, out),
    }
}

fn list(items: &[Value], out: &mut Vec<u8>, each: impl Fn(&Value, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(item, out);
    }
    out.push(b']');
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    match schema_type() {
        Some(ty) => write(value, ty, out),
        None => raw(value, out),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    // a Vec takes all that is written to it, and strings are always JSON
    let _ = serde_json::to_writer(out, text);
}

fn raw(value: &Value, out: &mut Vec<u8>) {
    // a Vec takes all that is written to it, and a Value is always JSON
    let _ = serde_json::to_writer(out, value);
}
