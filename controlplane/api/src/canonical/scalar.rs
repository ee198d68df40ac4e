//! Canonical form of what is one JSON value but not always one Go value: numbers, quantities, times, base64.
//!
//! Must not know: structs.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::{DecodeError, Result, time};
use crate::facts::{Elem, Shape};
use crate::quantity;

/// As lenient as Go's decoder about the last bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// `value` is not null.
pub(super) fn canonicalize(value: &mut Value, elem: &Elem) -> Result {
    let mismatch = |value: &Value| Err(DecodeError::mismatch(value, elem));
    match (&elem.shape, &mut *value) {
        (Shape::String, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => Ok(()),
        (Shape::Int32, Value::Number(_)) => integer(value, elem, i64::from(i32::MIN), i64::from(i32::MAX)),
        (Shape::Int64, Value::Number(_)) => integer(value, elem, i64::MIN, i64::MAX),
        (Shape::Uint8, Value::Number(_)) => integer(value, elem, 0, i64::from(u8::MAX)),
        (Shape::Float64, Value::Number(_)) => {
            shorten(value);
            Ok(())
        }
        (Shape::Bytes, Value::String(text)) => bytes(text),
        (Shape::Bytes, Value::Array(_)) => byte_array(value),
        (Shape::Quantity, _) => quantity(value),
        (Shape::IntOrString, _) => int_or_string(value),
        (Shape::Time, _) => instant(value, false),
        (Shape::MicroTime, _) => instant(value, true),
        (Shape::Duration, Value::String(_)) => Ok(()),
        (_, other) => mismatch(other),
    }
}

fn integer(value: &Value, elem: &Elem, min: i64, max: i64) -> Result {
    match value.as_i64() {
        Some(number) if (min..=max).contains(&number) => Ok(()),
        _ => Err(DecodeError::number(value, &elem.go_name())),
    }
}

/// Go writes 1.0 as 1.
fn shorten(value: &mut Value) {
    let Some(number) = value.as_f64() else { return };
    if value.is_f64() && number.fract() == 0.0 && number.abs() < 9e15 {
        *value = Value::from(number as i64);
    }
}

fn bytes(text: &mut String) -> Result {
    if plain_base64(text.as_bytes()) {
        return Ok(());
    }
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let decoded = BASE64.decode(&joined).map_err(|_| illegal_base64(text))?;
    *text = base64::engine::general_purpose::STANDARD.encode(decoded);
    Ok(())
}

/// Whether there is nothing to normalise: whole groups without padding (which alone may carry loose bits).
fn plain_base64(text: &[u8]) -> bool {
    text.len().is_multiple_of(4) && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn illegal_base64(text: &str) -> DecodeError {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\r' | b'\n');
    let at = text.bytes().position(|b| !allowed(b)).unwrap_or(text.len() / 4 * 4);
    DecodeError::text(format!("illegal base64 data at input byte {at}"))
}

/// Go also reads `[]byte` from an array of numbers.
fn byte_array(value: &mut Value) -> Result {
    let mut bytes = Vec::new();
    for item in value.as_array().into_iter().flatten() {
        let byte = match item {
            Value::Null => 0,
            Value::Number(number) => {
                number.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or_else(|| DecodeError::number(item, "uint8"))?
            }
            other => return Err(DecodeError::of(kind_of(other).to_owned(), "uint8".to_owned())),
        };
        bytes.push(byte);
    }
    *value = Value::String(base64::engine::general_purpose::STANDARD.encode(bytes));
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        _ => "object",
    }
}

fn quantity(value: &mut Value) -> Result {
    let bare;
    let text = match &*value {
        Value::String(text) => text,
        other => {
            bare = other.to_string();
            &bare
        }
    };
    let spelled = quantity::canonical(text).map_err(|error| DecodeError::text(error.to_string()))?;
    *value = Value::String(spelled.into_owned());
    Ok(())
}

fn int_or_string(value: &Value) -> Result {
    match value {
        Value::String(_) => Ok(()),
        Value::Number(number) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
        Value::Number(_) => Err(DecodeError::Text(DecodeError::number(value, "int32").to_string())),
        other => Err(DecodeError::Text(DecodeError::of(kind_of(other).to_owned(), "int32".to_owned()).to_string())),
    }
}

fn instant(value: &mut Value, micros: bool) -> Result {
    let Value::String(text) = value else {
        let what = if value.is_number() { "number" } else { kind_of(value) };
        let error = DecodeError::of(what.to_owned(), "string".to_owned());
        return Err(DecodeError::Text(error.to_string()));
    };
    let Some((seconds, nanos)) = time::parse(text, micros) else { return Err(unparsable(text, micros)) };
    let nanos = if micros { nanos } else { 0 };
    *value = match (seconds, nanos) {
        (time::GO_ZERO, 0) => Value::Null,
        _ => Value::String(time::format(seconds, nanos, micros)),
    };
    Ok(())
}

fn unparsable(text: &str, micros: bool) -> DecodeError {
    let layout = if micros { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    DecodeError::text(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))
}
