//! How the parts of an object are owned: as a whole, per field, per item.
//!
//! Must not know: managers.

use serde_json::{Map, Value};

use crate::facts::{Elem, Field, ListType, MapType, Shape, Type};

/// What a value is to its owners.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Owned as a whole: scalars, and atomic lists, maps and structs.
    Leaf,
    /// Owned per field.
    Struct(&'static Type),
    /// Owned per key.
    Map(&'static Elem),
    /// Owned per item; without keys the item is its own key.
    Items(&'static [&'static str], &'static Elem),
    /// Nothing is known: objects per key, the rest as a whole.
    Untyped,
}

impl Kind {
    pub fn of_field(field: &'static Field) -> Self {
        match &field.elem.shape {
            Shape::Map(_) | Shape::Struct(_) if field.map_type == Some(MapType::Atomic) => Self::Leaf,
            Shape::List(item) => Self::of_list(field, item),
            Shape::Struct(ty) if field.map_type == Some(MapType::Granular) => Self::Struct(ty),
            _ => Self::of(&field.elem),
        }
    }

    /// Of an item or a map's value: nothing is said about it but its type.
    pub fn of(elem: &'static Elem) -> Self {
        match &elem.shape {
            Shape::Struct(ty) if ty.atomic => Self::Leaf,
            Shape::Struct(ty) => Self::Struct(ty),
            Shape::Map(value) => Self::Map(value),
            Shape::Raw
            | Shape::Json
            | Shape::Fields
            | Shape::SchemaOrArray
            | Shape::SchemaOrBool
            | Shape::SchemaOrStringArray => Self::Untyped,
            _ => Self::Leaf,
        }
    }

    fn of_list(field: &'static Field, item: &'static Elem) -> Self {
        match field.list_type {
            Some(ListType::Map) => Self::Items(&field.list_keys, item),
            Some(ListType::Set) => Self::Items(&[], item),
            Some(ListType::Atomic) => Self::Leaf,
            // upstream falls back on the strategy of strategic merge
            None if !matches!(field.patch_strategy, "merge" | "merge,retainKeys") => Self::Leaf,
            None if field.patch_merge_key.is_empty() => Self::Items(&[], item),
            None => Self::Items(std::slice::from_ref(&field.patch_merge_key), item),
        }
    }

    /// The kind of a field or key of an object of this kind, and whether the schema names it.
    pub fn child(self, name: &str) -> (Self, bool) {
        match self {
            Self::Struct(ty) => ty.field(name).map_or((Self::Untyped, false), |field| (Self::of_field(field), true)),
            Self::Map(value) => (Self::of(value), false),
            _ => (Self::Untyped, false),
        }
    }

    /// With what nobody knows settled by looking at the values.
    pub fn deduced(self, left: Option<&Value>, right: Option<&Value>) -> Self {
        let object = |value: Option<&Value>| value.is_none_or(|v| v.is_object() || v.is_null());
        match self {
            Self::Untyped if object(left) && object(right) => self,
            Self::Untyped => Self::Leaf,
            known => known,
        }
    }
}

/// The path element of a list's item.
///
/// # Errors
/// Upstream's words for an item that cannot be told from others.
pub(super) fn item_element(keys: &[&'static str], elem: &'static Elem, item: &Value) -> Result<String, String> {
    if keys.is_empty() {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(format!("v:{scalar}")),
        };
    }
    let map = match item {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut found = Map::new();
    for key in keys {
        if let Some(value) = map.get(*key).cloned().or_else(|| key_default(elem, key)) {
            found.insert((*key).to_owned(), value);
        }
    }
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(format!("k:{}", Value::Object(found)))
}

/// The default OpenAPI gives a key: the static one, or zero where Go always writes the field.
fn key_default(elem: &'static Elem, key: &str) -> Option<Value> {
    let Shape::Struct(ty) = &elem.shape else { return None };
    let field = ty.field(key)?;
    if let Some(default) = field.default {
        return serde_json::from_str(default).ok();
    }
    if field.omitempty || field.elem.pointer {
        return None;
    }
    match field.elem.shape {
        Shape::String => Some(Value::from("")),
        Shape::Int32 | Shape::Int64 => Some(Value::from(0)),
        Shape::Bool => Some(Value::from(false)),
        _ => None,
    }
}
