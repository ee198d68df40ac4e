//! Values: JSON as it lies there, and what expressions make of it.
//!
//! Must not know: expressions.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value as Json};

use super::meter::Meter;
use crate::quantity::Quantity;

/// What reads JSON again gives up a little deeper than that.
const DEEPEST_JSON: usize = 120;

#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Cow<'a, str>),
    Bytes(Arc<[u8]>),
    List(Arc<[Value<'a>]>),
    JsonList(&'a [Json]),
    /// In the order in which it was written.
    Map(Arc<[(Value<'a>, Value<'a>)]>),
    JsonMap(&'a Map<String, Json>),
    Duration(SignedDuration),
    Timestamp(Timestamp),
    Quantity(Quantity),
    Type(&'static str),
    Optional(Option<Arc<Value<'a>>>),
}

impl<'a> Value<'a> {
    /// JSON as CEL has it: whole numbers are ints.
    pub fn of(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(it) => Self::Bool(*it),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, float) => Self::Double(float.unwrap_or_default()),
            },
            Json::String(text) => Self::String(Cow::Borrowed(text)),
            Json::Array(items) => Self::JsonList(items),
            Json::Object(fields) => Self::JsonMap(fields),
        }
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::String(Cow::Owned(text.into()))
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(items.into())
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(it) = self { Some(*it) } else { None }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) | Self::JsonList(_) => "list",
            Self::Map(_) | Self::JsonMap(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
        }
    }

    /// The elements of a list.
    pub fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::JsonList(items) => Some(items.iter().map(Self::of).collect()),
            _ => None,
        }
    }

    /// The entries of a map.
    pub fn entries(&self) -> Option<Vec<(Self, Self)>> {
        match self {
            Self::Map(entries) => Some(entries.to_vec()),
            Self::JsonMap(fields) => {
                let entries = fields.iter();
                Some(entries.map(|(key, value)| (Self::String(Cow::Borrowed(key)), Self::of(value))).collect())
            }
            _ => None,
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self, Self::List(_) | Self::JsonList(_))
    }

    /// An element of a list.
    pub fn at(&self, at: usize) -> Option<Self> {
        match self {
            Self::List(items) => items.get(at).cloned(),
            Self::JsonList(items) => items.get(at).map(Self::of),
            _ => None,
        }
    }

    /// The elements of a list, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Self> {
        (0..).map_while(|at| self.at(at))
    }

    pub fn size(&self) -> Option<usize> {
        match self {
            Self::List(items) => Some(items.len()),
            Self::JsonList(items) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::JsonMap(fields) => Some(fields.len()),
            Self::String(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    /// How long text is, bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// What a map has under `key`. `Err` is why nothing has a key here.
    pub fn get(&self, key: &Self, meter: &Meter<'_>) -> Result<Option<Self>, String> {
        match (self, key) {
            (Self::JsonMap(fields), Self::String(name)) => Ok(fields.get(name.as_ref()).map(Self::of)),
            (Self::JsonMap(_), _) => Ok(None),
            (Self::Map(entries), _) => {
                let mut entries = entries.iter();
                Ok(entries.find(|(known, _)| known.equals(key, meter)).map(|(_, value)| value.clone()))
            }
            _ => Err(format!("type '{}' does not support field selection", self.type_name())),
        }
    }

    /// Says no where nothing is left of `meter`.
    pub fn equals(&self, other: &Self, meter: &Meter<'_>) -> bool {
        if !meter.has(1 + self.bytes().min(other.bytes()) / 10) {
            return false;
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b, meter),
                _ => false,
            },
            (Self::List(_) | Self::JsonList(_), Self::List(_) | Self::JsonList(_)) => {
                self.size() == other.size() && self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b, meter))
            }
            (Self::Map(_) | Self::JsonMap(_), Self::Map(_) | Self::JsonMap(_)) => {
                let same = |key: &Self, value: &Self| {
                    let found = other.get(key, meter);
                    found.is_ok_and(|it| it.is_some_and(|it| it.equals(value, meter)))
                };
                self.size() == other.size()
                    && meter.has(self.size().unwrap_or_default())
                    && self.entries().unwrap_or_default().iter().all(|(key, value)| same(key, value))
            }
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }

    /// The order of two values that have one; numbers of different types do.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => a.partial_cmp(b),
            _ => match (self.whole(), other.whole()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => self.number()?.partial_cmp(&other.number()?),
            },
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(it) => Some(i128::from(*it)),
            Self::Uint(it) => Some(i128::from(*it)),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(it) => Some(*it as f64),
            Self::Uint(it) => Some(*it as f64),
            Self::Double(it) => Some(*it),
            _ => None,
        }
    }

    /// As JSON, which is how others read it. An empty optional is nothing.
    ///
    /// # Errors
    /// That it is too large: what is small here, sharing its parts, need not be so as JSON. That it nests too deep to be
    /// read again.
    pub fn to_json(&self) -> Result<Json, String> {
        self.json(&Meter::default(), 0)
    }

    pub(super) fn json(&self, meter: &Meter<'_>, depth: usize) -> Result<Json, String> {
        if depth > DEEPEST_JSON {
            return Err(format!("the result nests deeper than {DEEPEST_JSON} levels"));
        }
        meter.take(1 + self.bytes() / 10)?;
        Ok(match self {
            Self::Null | Self::Type(_) | Self::Optional(None) => Json::Null,
            Self::Bool(it) => (*it).into(),
            Self::Int(it) => (*it).into(),
            Self::Uint(it) => (*it).into(),
            Self::Double(it) => (*it).into(),
            Self::String(text) => text.as_ref().into(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
            Self::List(_) | Self::JsonList(_) => {
                self.iter().map(|item| item.json(meter, depth + 1)).collect::<Result<_, _>>()?
            }
            Self::Map(_) | Self::JsonMap(_) => {
                let entry = |(key, value): (Self, Self)| {
                    Ok::<_, String>((super::text::shown(&key, meter)?, value.json(meter, depth + 1)?))
                };
                Json::Object(self.entries().unwrap_or_default().into_iter().map(entry).collect::<Result<_, _>>()?)
            }
            Self::Duration(_) | Self::Timestamp(_) | Self::Quantity(_) => super::text::shown(self, meter)?.into(),
            Self::Optional(Some(inner)) => inner.json(meter, depth + 1)?,
        })
    }
}
