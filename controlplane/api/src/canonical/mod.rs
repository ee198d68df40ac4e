//! Canonical form: a JSON object exactly as upstream's Go types would write it after reading it.
//!
//! Nulls and unknown fields go, zero values go where Go omits them and appear where it does not, and quantities, times
//! and base64 get their one spelling. Two objects that mean the same are equal in this form.
//!
//! Must not know: which kinds are served, defaults beyond Go's zero values.

mod error;
mod scalar;
pub mod time;
mod write;

pub use error::DecodeError;
pub use write::{to_bytes, write};

use serde_json::{Map, Value};

use crate::facts::{Elem, Field, Shape, Type};

type Result<T = (), E = DecodeError> = std::result::Result<T, E>;

/// Brings a decoded object of type `ty` to canonical form, in place.
///
/// # Errors
/// A value of the wrong type, in the words of Go's decoder; the object is then half changed.
pub fn canonicalize(object: &mut Value, ty: &'static Type) -> Result {
    match object {
        Value::Object(map) => fields(map, ty),
        other => Err(DecodeError::not_an_object(other, ty)),
    }
}

/// Decodes JSON and brings it to canonical form.
///
/// # Errors
/// As [`canonicalize`], or that the bytes are no JSON.
pub fn decode(bytes: &[u8], ty: &'static Type) -> Result<Value> {
    let mut object = serde_json::from_slice(bytes).map_err(|e| DecodeError::text(e.to_string()))?;
    canonicalize(&mut object, ty)?;
    Ok(object)
}

fn fields(map: &mut Map<String, Value>, ty: &'static Type) -> Result {
    let mut failed = None;
    map.retain(|name, value| {
        let Some(at) = ty.position(name) else { return false };
        let flat = &ty.fields()[at];
        if failed.is_some() {
            return true;
        }
        if let Err(error) = elem(value, &flat.field.elem) {
            failed = Some(error.within(ty, flat.field.name, &flat.through));
        }
        keep(value, flat.field)
    });
    if let Some(error) = failed {
        return Err(error);
    }
    for field in ty.always() {
        if !map.contains_key(field.name) {
            map.insert(field.name.to_owned(), zero(&field.elem));
        }
    }
    Ok(())
}

/// Whether Go writes a field with this canonical value.
fn keep(value: &Value, field: &Field) -> bool {
    if field.omitzero && value.is_null() {
        return false;
    }
    if !field.omitempty || field.elem.value_struct() {
        return true;
    }
    match value {
        Value::Null => false,
        _ if field.elem.pointer => true,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// What Go writes for a value nobody set.
fn zero(elem: &Elem) -> Value {
    if elem.pointer {
        return Value::Null;
    }
    match &elem.shape {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Uint8 | Shape::Float64 | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::SchemaOrBool => Value::Bool(false),
        Shape::Struct(ty) => {
            let mut map = Map::new();
            for field in ty.always() {
                map.insert(field.name.to_owned(), zero(&field.elem));
            }
            Value::Object(map)
        }
        _ => Value::Null,
    }
}

fn elem(value: &mut Value, elem: &Elem) -> Result {
    if value.is_null() {
        *value = zero(elem);
        return Ok(());
    }
    match &elem.shape {
        Shape::Struct(ty) => match value {
            Value::Object(map) => fields(map, ty),
            other => Err(DecodeError::mismatch(other, elem)),
        },
        Shape::List(item) => match value {
            Value::Array(items) => items.iter_mut().try_for_each(|v| self::elem(v, item)),
            other => Err(DecodeError::mismatch(other, elem)),
        },
        Shape::Map(item) => match value {
            Value::Object(map) => map.values_mut().try_for_each(|v| self::elem(v, item)),
            other => Err(DecodeError::mismatch(other, elem)),
        },
        Shape::Raw | Shape::Fields | Shape::Json => Ok(()),
        Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStringArray => schema_or(value, &elem.shape),
        _ => scalar::canonicalize(value, elem),
    }
}

/// The unions of `apiextensions`: a schema, or something else.
fn schema_or(value: &mut Value, shape: &Shape) -> Result {
    let schema = schema_type();
    match (value, shape) {
        (Value::Object(map), _) => schema.map_or(Ok(()), |ty| fields(map, ty)),
        (Value::Array(items), Shape::SchemaOrArray) => {
            items.iter_mut().try_for_each(|item| schema.map_or(Ok(()), |ty| canonicalize(item, ty)))
        }
        (Value::Array(_), Shape::SchemaOrStringArray) | (Value::Bool(_), Shape::SchemaOrBool) => Ok(()),
        (_, Shape::SchemaOrBool) => Err(DecodeError::text("boolean or JSON schema expected")),
        (other, _) => {
            *other = Value::Null;
            Ok(())
        }
    }
}

/// `apiextensions/v1.JSONSchemaProps`.
pub(crate) fn schema_type() -> Option<&'static Type> {
    crate::facts::type_named("apiextensions/v1", "JSONSchemaProps")
}

#[cfg(test)]
mod tests;
