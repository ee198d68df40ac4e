//! Why a JSON value does not fit a Go type, in the words of Go's decoder.
//!
//! Must not know: any kind.

use std::fmt;

use serde_json::Value;

use crate::facts::{Elem, Type};

/// A value that does not fit. Shown as `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas
/// of type int32`.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeError {
    /// A value of the wrong JSON type.
    Type(Mismatch),
    /// What a type's own decoder says (quantities, times, …); Go adds no place to it.
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// `string`, `number 1.5`, `object`, …
    value: String,
    /// The Go type: `int32`, `[]v1.Container`.
    into: String,
    /// The innermost struct; empty at the top.
    within: &'static str,
    /// Field names, innermost first. Items and map keys do not show.
    path: Vec<&'static str>,
}

impl DecodeError {
    pub(super) fn mismatch(value: &Value, elem: &Elem) -> Self {
        Self::of(shown(value, false), elem.go_name())
    }

    /// As [`Self::mismatch`] where only the number's value, not its being a number, is wrong.
    pub(super) fn number(value: &Value, into: &str) -> Self {
        Self::of(shown(value, true), into.to_owned())
    }

    pub(super) fn not_an_object(value: &Value, ty: &Type) -> Self {
        Self::of(shown(value, false), ty.go_name())
    }

    pub(super) fn of(value: String, into: String) -> Self {
        Self::Type(Mismatch { value, into, within: "", path: Vec::new() })
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Adds the field the error happened in, from the inside out.
    pub(super) fn within(mut self, ty: &'static Type, field: &'static str, through: &[&'static str]) -> Self {
        if let Self::Type(mismatch) = &mut self {
            if mismatch.within.is_empty() {
                mismatch.within = ty.name;
            }
            mismatch.path.push(field);
            mismatch.path.extend(through.iter().rev());
        }
        self
    }
}

fn shown(value: &Value, number: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(n) if number => format!("number {n}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Type(Mismatch { value, into, within: "", .. }) => {
                write!(f, "json: cannot unmarshal {value} into Go value of type {into}")
            }
            Self::Type(Mismatch { value, into, within, path }) => {
                write!(f, "json: cannot unmarshal {value} into Go struct field {within}")?;
                for field in path.iter().rev() {
                    write!(f, ".{field}")?;
                }
                write!(f, " of type {into}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}
