//! Merging an applied object into the live one, and taking paths out of an object.
//!
//! Must not know: managers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::schema::{Kind, item_element};
use super::set::{Set, field};
use crate::facts::{Elem, Type};

type Result<T = ()> = std::result::Result<T, String>;

/// The live object with what `config` says.
///
/// # Errors
/// A list item that cannot be told from others, or is there twice, with its path.
pub(super) fn merge(live: &Value, config: &Value, ty: &'static Type) -> Result<Value> {
    Ok(value(Kind::Struct(ty), Some(live), Some(config), "")?.unwrap_or_else(|| Value::Object(Map::new())))
}

fn empty(side: Option<&Value>) -> bool {
    match side {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn value(kind: Kind, live: Option<&Value>, config: Option<&Value>, path: &str) -> Result<Option<Value>> {
    let kind = kind.deduced(live, config);
    if matches!(kind, Kind::Leaf) || (empty(live) && empty(config)) {
        return Ok(config.or(live).cloned());
    }
    match kind {
        Kind::Items(keys, item) => items(keys, item, live, config, path),
        kind => fields(kind, live, config, path),
    }
}

fn fields(kind: Kind, live: Option<&Value>, config: Option<&Value>, path: &str) -> Result<Option<Value>> {
    let (live, config) = (live.and_then(Value::as_object), config.and_then(Value::as_object));
    let names: BTreeSet<&String> = live.into_iter().chain(config).flat_map(Map::keys).collect();
    let mut out = Map::new();
    for name in names {
        let of = |side: Option<&'_ Map<String, Value>>| side.and_then(|map| map.get(name)).cloned();
        let (left, right) = (of(live), of(config));
        let below = format!("{path}.{name}");
        if let Some(merged) = value(kind.child(name).0, left.as_ref(), right.as_ref(), &below)? {
            out.insert(name.clone(), merged);
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// A list's items in order, with their path elements.
struct Indexed<'a> {
    order: Vec<String>,
    items: Vec<&'a Value>,
    /// None where an element is there twice.
    by_element: BTreeMap<String, Option<&'a Value>>,
}

fn index<'a>(
    keys: &[&'static str],
    item: &'static Elem,
    list: Option<&'a Value>,
    twice: bool,
    path: &str,
) -> Result<Indexed<'a>> {
    let mut out = Indexed { order: Vec::new(), items: Vec::new(), by_element: BTreeMap::new() };
    for (at, value) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let element = item_element(keys, item, value).map_err(|e| format!("{path}: element {at}: {e}"))?;
        if out.by_element.contains_key(&element) {
            if !twice {
                return Err(format!("{path}: duplicate entries for key {}", super::set::shown(&[&element])));
            }
            out.by_element.insert(element.clone(), None);
        } else {
            out.by_element.insert(element.clone(), Some(value));
        }
        out.order.push(element);
        out.items.push(value);
    }
    Ok(out)
}

/// Items of both lists: shared ones in the order of `config`, others of the live list where they stood.
fn items(
    keys: &'static [&'static str],
    item: &'static Elem,
    live: Option<&Value>,
    config: Option<&Value>,
    path: &str,
) -> Result<Option<Value>> {
    let right = index(keys, item, config, false, path)?;
    let left = index(keys, item, live, true, path)?;
    let mut shared = right.order.iter().filter(|e| left.by_element.contains_key(*e)).peekable();
    let mut merged: BTreeSet<&String> = BTreeSet::new();
    let mut out = Vec::new();
    let take = |element: &String, live: Option<&Value>, out: &mut Vec<Value>| -> Result {
        let theirs = right.by_element.get(element).copied().flatten();
        let below = format!("{path}{}", super::set::shown(&[element]));
        out.extend(value(Kind::of(item), live, theirs, &below)?);
        Ok(())
    };
    let (mut l, mut r) = (0, 0);
    while l < left.order.len() || r < right.order.len() {
        if let (Some(ours), Some(theirs)) = (left.order.get(l), right.order.get(r)) {
            if ours == theirs {
                merged.insert(theirs);
                take(theirs, left.by_element.get(ours).copied().flatten(), &mut out)?;
                shared.next();
                (l, r) = (l + 1, r + 1);
                continue;
            }
            let wanted = shared.peek().is_some_and(|next| *next == ours);
            if right.by_element.contains_key(ours) && shared.peek().is_some() && !wanted {
                // shared, but not the one whose turn it is
                l += 1;
                continue;
            }
        }
        if let Some(ours) = left.order.get(l) {
            if !right.by_element.contains_key(ours) {
                take(ours, Some(left.items[l]), &mut out)?;
                l += 1;
                continue;
            }
            if merged.contains(ours) {
                l += 1;
            }
        }
        if let Some(theirs) = right.order.get(r) {
            merged.insert(theirs);
            take(theirs, left.by_element.get(theirs).copied().flatten(), &mut out)?;
            r += 1;
            if shared.peek().is_some_and(|next| *next == theirs) {
                shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

/// `object` without the paths of `gone`.
pub(super) fn remove(object: &Value, gone: &Set, ty: &'static Type) -> Value {
    match take_out(object, gone, Kind::Struct(ty)) {
        Value::Null => Value::Object(Map::new()),
        left => left,
    }
}

fn take_out(value: &Value, gone: &Set, kind: Kind) -> Value {
    match (kind.deduced(Some(value), None), value) {
        (Kind::Items(keys, item), Value::Array(items)) => {
            let mut touched = false;
            let mut out = Vec::new();
            for value in items {
                let element = item_element(keys, item, value).unwrap_or_default();
                if gone.members.contains(&element) {
                    continue;
                }
                out.push(inner(value, gone.children.get(&element), Kind::of(item), &mut touched));
            }
            if out.is_empty() && !touched { Value::Null } else { Value::Array(out) }
        }
        (kind @ (Kind::Struct(_) | Kind::Map(_) | Kind::Untyped), Value::Object(map)) => {
            let mut touched = false;
            let mut out = Map::new();
            for (name, value) in map {
                let element = field(name);
                if gone.members.contains(&element) {
                    continue;
                }
                let left = inner(value, gone.children.get(&element), kind.child(name).0, &mut touched);
                out.insert(name.clone(), left);
            }
            if out.is_empty() && !touched { Value::Null } else { Value::Object(out) }
        }
        (Kind::Leaf, value) if value.is_array() || value.is_object() => Value::Null,
        (_, value) => value.clone(),
    }
}

/// What is left of something that may have parts to lose; what held something stays as an empty shell.
fn inner(value: &Value, gone: Option<&Set>, kind: Kind, touched: &mut bool) -> Value {
    let Some(gone) = gone.filter(|set| !set.is_empty()) else { return value.clone() };
    *touched = true;
    match (take_out(value, gone, kind), value) {
        (Value::Null, Value::Object(_)) => Value::Object(Map::new()),
        (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
        (left, _) => left,
    }
}

/// `set` with the fields that the schema names made members wherever something below them is one.
pub(super) fn with_named_fields(set: &Set, kind: Kind) -> Set {
    let mut out = Set { members: set.members.clone(), ..Set::default() };
    for (element, child) in &set.children {
        let (below, named) = match (element.strip_prefix("f:"), kind) {
            (Some(name), kind) => kind.child(name),
            (None, Kind::Items(_, item)) => (Kind::of(item), false),
            _ => (Kind::Untyped, false),
        };
        if named {
            out.members.insert(element.clone());
        }
        out.children.insert(element.clone(), with_named_fields(child, below));
    }
    out
}
