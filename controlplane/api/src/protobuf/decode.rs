//! Protobuf to canonical JSON.
//!
//! Must not know: the wire format below fields and payloads.

use base64::Engine as _;
use serde_json::{Map, Value};
use thiserror::Error;

use super::MAGIC;
use super::wire::{Payload, Reader};
use crate::canonical::{self, time};
use crate::facts::{self, Elem, Field, Shape, Type};

/// Messages may nest this deep (schemas of custom resources are recursive).
const DEEPEST: usize = 100;

/// Why bytes are not an object.
#[derive(Debug, Error, PartialEq)]
pub enum DecodeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    #[error("proto: {message} is malformed")]
    Malformed { message: &'static str },
    #[error("no kind {kind:?} is registered for version {version:?}")]
    UnknownKind { kind: String, version: String },
    #[error(transparent)]
    Value(#[from] canonical::DecodeError),
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

fn malformed(ty: &Type) -> DecodeError {
    DecodeError::Malformed { message: ty.name }
}

/// Decodes an object in its envelope, of whatever kind the envelope says.
///
/// # Errors
/// No such envelope, a kind the facts do not know, or a malformed message.
pub fn decode(bytes: &[u8]) -> Result<Value> {
    decode_as(bytes, None)
}

/// As [`decode`], of type `fallback` where the envelope names no kind.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(bytes: &[u8], fallback: Option<&'static Type>) -> Result<Value> {
    enveloped(bytes, fallback, 0)
}

/// An envelope that is itself inside of `depth` messages.
fn enveloped(bytes: &[u8], fallback: Option<&'static Type>, depth: usize) -> Result<Value> {
    let body = bytes.strip_prefix(MAGIC).ok_or(DecodeError::NoMagic)?;
    let envelope = Envelope::read(body).ok_or(DecodeError::Malformed { message: "Unknown" })?;
    if envelope.content_type == b"application/json" {
        return json(envelope.raw);
    }
    let (version, kind) = (text(envelope.api_version), text(envelope.kind));
    let known = if kind.is_empty() { fallback } else { facts::type_of_api_version(&version, &kind) };
    let Some(ty) = known else { return Err(DecodeError::UnknownKind { kind, version }) };
    let mut object = message_at(envelope.raw, ty, depth)?;
    if let Value::Object(map) = &mut object {
        for (name, value) in [("kind", kind), ("apiVersion", version)] {
            if !value.is_empty() && ty.field(name).is_some() {
                map.insert(name.to_owned(), Value::String(value));
            }
        }
    }
    Ok(object)
}

/// Decodes a message without an envelope, to canonical form.
///
/// # Errors
/// A malformed message.
pub fn decode_message(bytes: &[u8], ty: &'static Type) -> Result<Value> {
    message_at(bytes, ty, 0)
}

fn message_at(bytes: &[u8], ty: &'static Type, depth: usize) -> Result<Value> {
    let mut map = Map::new();
    message(bytes, ty, &mut map, depth)?;
    let mut object = Value::Object(map);
    canonical::canonicalize(&mut object, ty)?;
    Ok(object)
}

#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a [u8],
    kind: &'a [u8],
    raw: &'a [u8],
    content_type: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut it = Self::default();
        let mut reader = Reader::new(bytes);
        while !reader.done() {
            match reader.field()? {
                (1, Payload::Bytes(meta)) => {
                    let mut reader = Reader::new(meta);
                    while !reader.done() {
                        match reader.field()? {
                            (1, Payload::Bytes(version)) => it.api_version = version,
                            (2, Payload::Bytes(kind)) => it.kind = kind,
                            _ => {}
                        }
                    }
                }
                (2, Payload::Bytes(raw)) => it.raw = raw,
                (4, Payload::Bytes(kind)) => it.content_type = kind,
                _ => {}
            }
        }
        Some(it)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|_| DecodeError::Malformed { message: "RawExtension" })
}

fn message(bytes: &[u8], ty: &'static Type, map: &mut Map<String, Value>, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(malformed(ty));
    }
    let mut reader = Reader::new(bytes);
    while !reader.done() {
        let (number, payload) = reader.field().ok_or_else(|| malformed(ty))?;
        let Some(field) = ty.members().iter().find(|field| field.number == number) else { continue };
        match (&field.elem.shape, payload) {
            (Shape::Struct(inner), Payload::Bytes(body)) if field.inline() => message(body, inner, map, depth + 1)?,
            _ => member(field, payload, map, depth).map_err(|error| error.unwrap_or_else(|| malformed(ty)))?,
        }
    }
    Ok(())
}

/// An error without content: the payload does not fit; the caller knows the message's name.
type Fit<T = ()> = std::result::Result<T, Option<DecodeError>>;

fn member(field: &'static Field, payload: Payload<'_>, map: &mut Map<String, Value>, depth: usize) -> Fit {
    match &field.elem.shape {
        Shape::List(item) if !field.elem.wrapped => {
            let slot = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = slot else { return Err(None) };
            match (payload, varint_shape(item)) {
                (Payload::Bytes(packed), true) => unpack(packed, item, items)?,
                _ => items.push(value(item, payload, depth)?),
            }
        }
        Shape::Map(item) => {
            let slot = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            let (Value::Object(entries), Payload::Bytes(body)) = (slot, payload) else { return Err(None) };
            let (key, value) = entry(body, item, depth)?;
            entries.insert(key, value);
        }
        _ => {
            map.insert(field.name.to_owned(), value(&field.elem, payload, depth)?);
        }
    }
    Ok(())
}

fn varint_shape(elem: &Elem) -> bool {
    matches!(elem.shape, Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Uint8)
}

/// Other writers pack repeated numbers.
fn unpack(packed: &[u8], item: &'static Elem, items: &mut Vec<Value>) -> Fit {
    let mut reader = Reader::new(packed);
    while !reader.done() {
        let number = reader.varint().ok_or(None)?;
        items.push(value(item, Payload::Varint(number), 0)?);
    }
    Ok(())
}

fn entry(body: &[u8], item: &'static Elem, depth: usize) -> Fit<(String, Value)> {
    let (mut key, mut found) = (String::new(), Value::Null);
    let mut reader = Reader::new(body);
    while !reader.done() {
        match reader.field().ok_or(None)? {
            (1, Payload::Bytes(bytes)) => key = text(bytes),
            (2, payload) => found = value(item, payload, depth)?,
            _ => {}
        }
    }
    Ok((key, found))
}

fn value(elem: &'static Elem, payload: Payload<'_>, depth: usize) -> Fit<Value> {
    Ok(match (&elem.shape, payload) {
        (Shape::Bool, Payload::Varint(number)) => Value::Bool(number != 0),
        (Shape::Int32, Payload::Varint(number)) => Value::from(number as i32),
        (Shape::Int64 | Shape::Uint8, Payload::Varint(number)) => Value::from(number as i64),
        (Shape::Float64, Payload::Fixed64(bits)) => Value::from(f64::from_bits(bits)),
        (Shape::String, Payload::Bytes(bytes)) => Value::String(text(bytes)),
        (Shape::Bytes, Payload::Bytes(bytes)) => Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
        (Shape::Struct(ty), Payload::Bytes(bytes)) => {
            let mut map = Map::new();
            message(bytes, ty, &mut map, depth + 1)?;
            Value::Object(map)
        }
        (_, Payload::Bytes(bytes)) => special(elem, bytes, depth)?,
        _ => return Err(None),
    })
}

/// Go structs with a JSON form of their own.
fn special(elem: &'static Elem, bytes: &[u8], depth: usize) -> Fit<Value> {
    let fields = Fields::read(bytes).ok_or(None)?;
    Ok(match &elem.shape {
        Shape::Quantity => fields.bytes(1).map_or(Value::Null, |b| Value::String(text(b))),
        Shape::IntOrString if fields.varint(1) == 1 => Value::String(text(fields.bytes(3).unwrap_or_default())),
        Shape::IntOrString => Value::from(fields.varint(2) as i32),
        Shape::Time | Shape::MicroTime if bytes.is_empty() => Value::Null,
        Shape::Time => Value::String(time::format(fields.seconds()?, 0, false)),
        Shape::MicroTime => {
            Value::String(time::format(fields.seconds()?, fields.varint(2) as u32 % 1_000_000_000, true))
        }
        Shape::Raw | Shape::Fields | Shape::Json => match fields.bytes(1) {
            None | Some(b"") => Value::Null,
            Some(raw) if raw.starts_with(MAGIC) => enveloped(raw, None, depth + 1)?,
            Some(raw) => json(raw)?,
        },
        Shape::List(item) => {
            let items = fields.0.iter().filter(|(number, _)| *number == 1);
            Value::Array(items.map(|(_, payload)| value(item, *payload, depth + 1)).collect::<Fit<_>>()?)
        }
        shape => schema_or(shape, &fields, depth)?,
    })
}

fn schema_or(shape: &Shape, fields: &Fields<'_>, depth: usize) -> Fit<Value> {
    let schema = |bytes: &[u8]| -> Fit<Value> {
        let mut map = Map::new();
        let ty = canonical::schema_type().ok_or(None)?;
        message(bytes, ty, &mut map, depth + 1)?;
        Ok(Value::Object(map))
    };
    let all = || {
        let of_two = fields.0.iter().filter(|(number, _)| *number == 2);
        of_two.filter_map(|(_, payload)| if let Payload::Bytes(bytes) = payload { Some(*bytes) } else { None })
    };
    Ok(match shape {
        Shape::SchemaOrBool => match fields.bytes(2) {
            Some(bytes) => schema(bytes)?,
            None => Value::Bool(fields.varint(1) != 0),
        },
        Shape::SchemaOrArray if all().next().is_some() => Value::Array(all().map(schema).collect::<Fit<_>>()?),
        Shape::SchemaOrStringArray if all().next().is_some() => {
            Value::Array(all().map(|bytes| Value::String(text(bytes))).collect())
        }
        Shape::SchemaOrArray | Shape::SchemaOrStringArray => fields.bytes(1).map_or(Ok(Value::Null), schema)?,
        _ => return Err(None),
    })
}

/// The fields of a small message.
struct Fields<'a>(Vec<(u32, Payload<'a>)>);

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        while !reader.done() {
            found.push(reader.field()?);
        }
        Some(Self(found))
    }

    fn varint(&self, number: u32) -> u64 {
        let found = self.0.iter().rev().find(|(n, _)| *n == number);
        if let Some((_, Payload::Varint(value))) = found { *value } else { 0 }
    }

    fn bytes(&self, number: u32) -> Option<&'a [u8]> {
        let found = self.0.iter().rev().find(|(n, _)| *n == number)?;
        if let Payload::Bytes(bytes) = found.1 { Some(bytes) } else { None }
    }

    /// Seconds since 1970, within the years 1 to 9999, which is what JSON can say.
    fn seconds(&self) -> Fit<i64> {
        let seconds = self.varint(1) as i64;
        (time::GO_ZERO..=253_402_300_799).contains(&seconds).then_some(seconds).ok_or(None)
    }
}
