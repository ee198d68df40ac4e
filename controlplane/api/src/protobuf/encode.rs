//! Canonical JSON to protobuf, byte for byte as upstream's generated code writes it: fields by number, values that are
//! not pointers always present, map entries by key.
//!
//! Must not know: the wire format below tags and lengths.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::{MAGIC, wire};
use crate::canonical::time;
use crate::facts::{Elem, Field, Shape, Type};

/// An object in its envelope. `object` must be canonical; its `apiVersion` and `kind` go into the envelope.
pub fn encode(object: &Value, ty: &'static Type) -> Vec<u8> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    envelope(text("apiVersion"), text("kind"), &encode_message(object, ty))
}

/// The message alone.
pub fn encode_message(object: &Value, ty: &'static Type) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if let Value::Object(map) = object {
        message(map, ty, &mut out);
    }
    out
}

/// Puts an encoded message into its envelope.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    out.extend_from_slice(MAGIC);
    wire::put_message(1, &mut out, |out| {
        wire::put_bytes(1, api_version.as_bytes(), out);
        wire::put_bytes(2, kind.as_bytes(), out);
    });
    wire::put_bytes(2, message, &mut out);
    // content encoding and content type: empty
    wire::put_bytes(3, b"", &mut out);
    wire::put_bytes(4, b"", &mut out);
    out
}

/// The message of a list: `metadata` is a canonical `ListMeta`, `items` are messages encoded before.
pub fn list<'a>(metadata: &Value, items: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_message(1, &mut out, |out| {
        if let (Value::Object(map), Some(ty)) = (metadata, crate::facts::type_named("meta/v1", "ListMeta")) {
            message(map, ty, out);
        }
    });
    for item in items {
        wire::put_bytes(2, item, &mut out);
    }
    out
}

/// One event of a watch, without its frame: `object` is an object in its envelope.
pub fn watch_event(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 32);
    wire::put_bytes(1, event.as_bytes(), &mut out);
    wire::put_message(2, &mut out, |out| wire::put_bytes(1, object, out));
    out
}

fn message(map: &Map<String, Value>, ty: &'static Type, out: &mut Vec<u8>) {
    for field in ty.by_number() {
        if field.inline() {
            if let Shape::Struct(inner) = &field.elem.shape {
                wire::put_message(field.number, out, |out| message(map, inner, out));
            }
        } else {
            member(map.get(field.name).unwrap_or(&Value::Null), field, out);
        }
    }
}

fn member(value: &Value, field: &Field, out: &mut Vec<u8>) {
    let number = field.number;
    match (&field.elem.shape, value) {
        (Shape::List(item), Value::Array(items)) if !field.elem.wrapped => {
            for value in items {
                put(number, value, item, out);
            }
        }
        (Shape::Map(item), Value::Object(map)) => {
            for (key, value) in map {
                wire::put_message(number, out, |out| {
                    wire::put_bytes(1, key.as_bytes(), out);
                    put(2, value, item, out);
                });
            }
        }
        (Shape::List(_) | Shape::Map(_) | Shape::Bytes, Value::Null) => {}
        (_, Value::Null) if field.elem.pointer => {}
        (_, value) => put(number, value, &field.elem, out),
    }
}

/// One value that is present; null stands for Go's zero value.
fn put(number: u32, value: &Value, elem: &Elem, out: &mut Vec<u8>) {
    match &elem.shape {
        Shape::String => wire::put_bytes(number, value.as_str().unwrap_or_default().as_bytes(), out),
        Shape::Bool => wire::put_int(number, i64::from(value.as_bool().unwrap_or_default()), out),
        Shape::Int32 | Shape::Int64 | Shape::Uint8 => wire::put_int(number, value.as_i64().unwrap_or_default(), out),
        Shape::Float64 => {
            wire::put_tag(number, wire::FIXED64, out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Shape::Bytes => {
            let text = value.as_str().unwrap_or_default();
            // canonical base64 always decodes
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
            wire::put_bytes(number, &bytes, out);
        }
        _ => wire::put_message(number, out, |out| put_struct(value, elem, out)),
    }
}

/// The body of what Go holds in a struct of its own.
fn put_struct(value: &Value, elem: &Elem, out: &mut Vec<u8>) {
    match (&elem.shape, value) {
        (Shape::Struct(ty), Value::Object(map)) => message(map, ty, out),
        (Shape::Struct(ty), _) => message(&Map::new(), ty, out),
        (Shape::Quantity, value) => wire::put_bytes(1, value.as_str().unwrap_or("0").as_bytes(), out),
        (Shape::IntOrString, value) => int_or_string(value, out),
        (Shape::Time, Value::String(text)) => instant(text, false, out),
        (Shape::MicroTime, Value::String(text)) => instant(text, true, out),
        (Shape::Raw | Shape::Fields | Shape::Json, value) if !value.is_null() => raw(value, out),
        (Shape::List(item), Value::Array(items)) => items.iter().for_each(|value| put(1, value, item, out)),
        (Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStringArray, value) => {
            schema_or(value, &elem.shape, out)
        }
        _ => {}
    }
}

fn int_or_string(value: &Value, out: &mut Vec<u8>) {
    let (kind, number, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        other => (0, other.as_i64().unwrap_or_default(), ""),
    };
    wire::put_int(1, kind, out);
    wire::put_int(2, number, out);
    wire::put_bytes(3, text.as_bytes(), out);
}

fn instant(text: &str, micros: bool, out: &mut Vec<u8>) {
    let Some((seconds, nanos)) = time::parse(text, micros) else { return };
    wire::put_int(1, seconds, out);
    wire::put_int(2, if micros { i64::from(nanos / 1000 * 1000) } else { 0 }, out);
}

fn raw(value: &Value, out: &mut Vec<u8>) {
    // a Value is always JSON
    wire::put_bytes(1, &serde_json::to_vec(value).unwrap_or_default(), out);
}

/// The unions of `apiextensions`, by the messages upstream has for them.
fn schema_or(value: &Value, shape: &Shape, out: &mut Vec<u8>) {
    let Some(ty) = crate::canonical::schema_type() else { return };
    let schema = |number: u32, map: &Map<String, Value>, out: &mut Vec<u8>| {
        wire::put_message(number, out, |out| message(map, ty, out));
    };
    if matches!(shape, Shape::SchemaOrBool) {
        wire::put_int(1, i64::from(value.as_bool() != Some(false)), out);
    }
    match value {
        Value::Object(map) => schema(if matches!(shape, Shape::SchemaOrBool) { 2 } else { 1 }, map, out),
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(map) => schema(2, map, out),
                    other => wire::put_bytes(2, other.as_str().unwrap_or_default().as_bytes(), out),
                }
            }
        }
        _ => {}
    }
}
