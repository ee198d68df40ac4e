//! The protobuf form of an OpenAPI v2 document: gnostic's `openapi.v2.Document`, which kubectl and client-go ask for.
//! A message is a page of facts (JSON name, number, how the value is written); one walk writes them all.
//!
//! Source of names and numbers: `gnostic-models/openapiv2/OpenAPIv2.proto`.
//!
//! Must not know: what the document describes.

use serde_json::Value;

use crate::protobuf::wire::{FIXED64, put_bytes, put_int, put_message, put_tag};

/// The media type under which upstream serves it.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// How a field's value is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Bool,
    Int,
    Double,
    /// Any JSON, as YAML text.
    Any,
    Message(&'static [Field]),
    /// One value or a list of them, repeated.
    Each(&'static As),
    /// A message whose only field repeats `value`: one value or a list of them.
    Wrapped(&'static As),
    /// A map, as a message whose field `.0` repeats pairs of name and value.
    Named(u32, &'static As),
    /// The message at field `.0` of a message of one of several.
    OneOf(u32, &'static As),
    Schema,
    /// `true`, `false` or a schema.
    SchemaOrBool,
    Parameter,
}

type Field = (&'static str, u32, As);

/// A message's vendor extensions (`x-…`) are at the field of this name.
const EXTENSIONS: &str = "x-";

const DOCUMENT: &[Field] = &[
    ("swagger", 1, As::Text),
    ("info", 2, As::Message(&[("title", 1, As::Text), ("version", 2, As::Text), ("description", 3, As::Text)])),
    ("paths", 8, As::Named(2, &As::Message(PATH))),
    ("definitions", 9, As::Named(1, &As::Schema)),
    ("security", 12, As::Each(&As::Named(1, &As::Wrapped(&As::Text)))),
    ("securityDefinitions", 13, As::Named(1, &As::OneOf(2, &As::Message(API_KEY)))),
    (EXTENSIONS, 16, As::Any),
];

const API_KEY: &[Field] = &[
    ("type", 1, As::Text),
    ("name", 2, As::Text),
    ("in", 3, As::Text),
    ("description", 4, As::Text),
    (EXTENSIONS, 5, As::Any),
];

const PATH: &[Field] = &[
    ("$ref", 1, As::Text),
    ("get", 2, As::Message(OPERATION)),
    ("put", 3, As::Message(OPERATION)),
    ("post", 4, As::Message(OPERATION)),
    ("delete", 5, As::Message(OPERATION)),
    ("options", 6, As::Message(OPERATION)),
    ("head", 7, As::Message(OPERATION)),
    ("patch", 8, As::Message(OPERATION)),
    ("parameters", 9, As::Each(&As::Parameter)),
    (EXTENSIONS, 10, As::Any),
];

const OPERATION: &[Field] = &[
    ("tags", 1, As::Each(&As::Text)),
    ("summary", 2, As::Text),
    ("description", 3, As::Text),
    ("operationId", 5, As::Text),
    ("produces", 6, As::Each(&As::Text)),
    ("consumes", 7, As::Each(&As::Text)),
    ("parameters", 8, As::Each(&As::Parameter)),
    ("responses", 9, As::Named(1, &As::OneOf(1, &As::Message(RESPONSE)))),
    ("schemes", 10, As::Each(&As::Text)),
    ("deprecated", 11, As::Bool),
    (EXTENSIONS, 13, As::Any),
];

const RESPONSE: &[Field] =
    &[("description", 1, As::Text), ("schema", 2, As::OneOf(1, &As::Schema)), (EXTENSIONS, 5, As::Any)];

const BODY_PARAMETER: &[Field] = &[
    ("description", 1, As::Text),
    ("name", 2, As::Text),
    ("in", 3, As::Text),
    ("required", 4, As::Bool),
    ("schema", 5, As::Schema),
    (EXTENSIONS, 6, As::Any),
];

const QUERY_PARAMETER: &[Field] = &[
    ("required", 1, As::Bool),
    ("in", 2, As::Text),
    ("description", 3, As::Text),
    ("name", 4, As::Text),
    ("type", 6, As::Text),
    ("format", 7, As::Text),
    ("uniqueItems", 20, As::Bool),
    (EXTENSIONS, 23, As::Any),
];

/// As of a header, too.
const PATH_PARAMETER: &[Field] = &[
    ("required", 1, As::Bool),
    ("in", 2, As::Text),
    ("description", 3, As::Text),
    ("name", 4, As::Text),
    ("type", 5, As::Text),
    ("format", 6, As::Text),
    ("uniqueItems", 19, As::Bool),
    (EXTENSIONS, 22, As::Any),
];

const SCHEMA: &[Field] = &[
    ("$ref", 1, As::Text),
    ("format", 2, As::Text),
    ("title", 3, As::Text),
    ("description", 4, As::Text),
    ("default", 5, As::Any),
    ("multipleOf", 6, As::Double),
    ("maximum", 7, As::Double),
    ("exclusiveMaximum", 8, As::Bool),
    ("minimum", 9, As::Double),
    ("exclusiveMinimum", 10, As::Bool),
    ("maxLength", 11, As::Int),
    ("minLength", 12, As::Int),
    ("pattern", 13, As::Text),
    ("maxItems", 14, As::Int),
    ("minItems", 15, As::Int),
    ("uniqueItems", 16, As::Bool),
    ("maxProperties", 17, As::Int),
    ("minProperties", 18, As::Int),
    ("required", 19, As::Each(&As::Text)),
    ("enum", 20, As::Each(&As::Any)),
    ("additionalProperties", 21, As::SchemaOrBool),
    ("type", 22, As::Wrapped(&As::Text)),
    ("items", 23, As::Wrapped(&As::Schema)),
    ("allOf", 24, As::Each(&As::Schema)),
    ("properties", 25, As::Named(1, &As::Schema)),
    ("readOnly", 27, As::Bool),
    ("example", 30, As::Any),
    (EXTENSIONS, 31, As::Any),
];

/// The protobuf form of an OpenAPI v2 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_fields(DOCUMENT, document, &mut out);
    out
}

fn put_fields(fields: &[Field], value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    for (name, number, kind) in fields {
        if *name == EXTENSIONS {
            let extensions = map.iter().filter(|(key, _)| key.starts_with(EXTENSIONS));
            extensions.for_each(|(key, value)| put_named(*number, key, &As::Any, value, out));
        } else if let Some(value) = map.get(*name) {
            put(*number, kind, value, out);
        }
    }
}

fn put(number: u32, kind: &As, value: &Value, out: &mut Vec<u8>) {
    match kind {
        As::Text => put_bytes(number, value.as_str().unwrap_or_default().as_bytes(), out),
        As::Bool => put_int(number, value.as_bool().unwrap_or_default().into(), out),
        As::Int => put_int(number, value.as_i64().unwrap_or_default(), out),
        As::Double => {
            put_tag(number, FIXED64, out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        // JSON is YAML
        As::Any => put_message(number, out, |out| put_bytes(2, format!("{value}\n").as_bytes(), out)),
        As::Message(fields) => put_message(number, out, |out| put_fields(fields, value, out)),
        As::Schema => put(number, &As::Message(SCHEMA), value, out),
        As::Each(kind) => each(value).iter().for_each(|value| put(number, kind, value, out)),
        As::Wrapped(kind) => put_message(number, out, |out| put(1, &As::Each(kind), value, out)),
        As::Named(inner, kind) => put_message(number, out, |out| {
            let pairs = value.as_object().into_iter().flatten();
            pairs.for_each(|(name, value)| put_named(*inner, name, kind, value, out));
        }),
        As::OneOf(inner, kind) => put_message(number, out, |out| put(*inner, kind, value, out)),
        As::SchemaOrBool => put_message(number, out, |out| match value {
            Value::Bool(_) => put(2, &As::Bool, value, out),
            _ => put(1, &As::Schema, value, out),
        }),
        As::Parameter => put_message(number, out, |out| put_parameter(value, out)),
    }
}

fn each(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn put_named(number: u32, name: &str, kind: &As, value: &Value, out: &mut Vec<u8>) {
    put_message(number, out, |out| {
        put_bytes(1, name.as_bytes(), out);
        put(2, kind, value, out);
    });
}

/// A reference, the body, or one of the others by its place.
fn put_parameter(value: &Value, out: &mut Vec<u8>) {
    const OTHER: u32 = 2;
    if !value["$ref"].is_null() {
        return put(2, &As::Message(&[("$ref", 1, As::Text)]), value, out);
    }
    put_message(1, out, |out| match value["in"].as_str().unwrap_or_default() {
        "body" => put(1, &As::Message(BODY_PARAMETER), value, out),
        "query" => put(OTHER, &As::OneOf(3, &As::Message(QUERY_PARAMETER)), value, out),
        "header" => put(OTHER, &As::OneOf(1, &As::Message(PATH_PARAMETER)), value, out),
        _ => put(OTHER, &As::OneOf(4, &As::Message(PATH_PARAMETER)), value, out),
    });
}
