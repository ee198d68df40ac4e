//! Strategic merge patch: a merge that knows which lists merge, and by which key.
//!
//! Directives: `$patch: replace | delete` in a map or an item, `$deleteFromPrimitiveList/<field>`,
//! `$setElementOrder/<field>`, `$retainKeys`. Semantics and texts of `apimachinery/pkg/util/strategicpatch`.
//!
//! Must not know: any kind; it asks the facts.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::facts::{Elem, Shape, Type};
use crate::status::Status;

type Object = Map<String, Value>;
type Result<T> = std::result::Result<T, Status>;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

const BAD_PRIMITIVES: &str = "invalid patch format of primitive list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";

/// Applies `patch` to `current`, an object of type `ty`.
///
/// # Errors
/// 400 and 422 for malformed directives, 500 with upstream's text for the rest, as the API server answers.
pub fn strategic(current: &Value, patch: &Value, ty: &'static Type) -> Result<Value> {
    let (Value::Object(current), Value::Object(patch)) = (current, patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    merge_map(current.clone(), patch.clone(), Schema::Struct(ty)).map(Value::Object)
}

/// What is known about the place being patched.
#[derive(Clone, Copy)]
enum Schema {
    Struct(&'static Type),
    /// Not a Go struct; named as Go's reflection names its kind.
    Other(&'static str),
}

/// How a field merges.
#[derive(Clone, Copy)]
struct Rule {
    /// Of the field's value, or of its items.
    inner: Schema,
    strategy: &'static str,
    merge_key: &'static str,
}

impl Schema {
    fn of(elem: &Elem) -> Self {
        match &elem.shape {
            Shape::Struct(ty) => Self::Struct(ty),
            Shape::List(_) | Shape::Bytes => Self::Other("slice"),
            Shape::Map(_) => Self::Other("map"),
            Shape::String => Self::Other("string"),
            _ => Self::Other("struct"),
        }
    }

    fn field(self, name: &str) -> Result<&'static crate::facts::Field> {
        match self {
            Self::Struct(ty) => ty.field(name).ok_or_else(|| {
                other(format!("unable to find api field in struct {} for the json field {name:?}", ty.name))
            }),
            Self::Other(kind) => {
                Err(other(format!("merging an object in json but data type is not struct, instead is: {kind}")))
            }
        }
    }

    fn rule(self, name: &str, list: bool) -> Result<Rule> {
        if let Self::Other("map") = self {
            // a map's values merge by no rule of their own
            return Ok(Rule { inner: Self::Other("map"), strategy: "", merge_key: "" });
        }
        let field = self.field(name)?;
        let inner = match &field.elem.shape {
            Shape::List(item) if list => Self::of(item),
            _ => Self::of(&field.elem),
        };
        let strategy = field.patch_strategy.split(',').find(|s| *s != "retainKeys").unwrap_or("");
        Ok(Rule { inner, strategy, merge_key: field.patch_merge_key })
    }
}

/// What upstream answers with where it has no better code.
fn other(message: String) -> Status {
    Status::new(500, "InternalError", message)
}

fn bad(message: &str) -> Status {
    Status::bad_request(message)
}

fn merge_map(mut original: Object, mut patch: Object, schema: Schema) -> Result<Object> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(other(format!("unknown patch type: {} in map: {}", plain(&directive), Value::Object(patch)))),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        merge_key(&mut original, key, value, schema)?;
    }
    Ok(original)
}

fn merge_key(original: &mut Object, key: String, value: Value, schema: Schema) -> Result<()> {
    let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
        Some(rest) => (rest.strip_prefix('/').ok_or_else(|| bad(BAD_PRIMITIVES))?.to_owned(), true),
        None => (key, false),
    };
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let Some(slot) = original.get_mut(&key) else {
        if !deletes {
            insert_new(original, key, value);
        }
        return Ok(());
    };
    match (slot.take(), value) {
        (Value::Object(old), Value::Object(new)) => {
            let rule = schema.rule(&key, false)?;
            *slot = Value::Object(if rule.strategy == "replace" { new } else { merge_map(old, new, rule.inner)? });
        }
        (Value::Array(old), Value::Array(new)) => {
            let rule = schema.rule(&key, true)?;
            *slot = Value::Array(merge_list_by_rule(old, new, rule, deletes)?);
        }
        (old, _) if deletes => *slot = old,
        (_, value) => {
            original.remove(&key);
            insert_new(original, key, value);
        }
    }
    Ok(())
}

/// A value there was nothing to merge with.
fn insert_new(original: &mut Object, key: String, mut value: Value) {
    discard_nulls(&mut value);
    if let Some(value) = without_directives(value) {
        original.insert(key, value);
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter_map(|(k, v)| without_directives(v).map(|v| (k, v)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        plain => Some(plain),
    }
}

/// `$retainKeys`: what the list does not name goes; what the patch sets must be named.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<()> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(list) = list else { return Err(bad(BAD_RETAIN_KEYS)) };
    let named = |key: &str| list.iter().any(|k| k.as_str() == Some(key));
    let directive = |key: &str| key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !named(key)) {
        return Err(bad(BAD_RETAIN_KEYS));
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// `$setElementOrder`: merges the lists it orders, and takes them out of the patch.
fn merge_ordered_lists(original: &mut Object, patch: &mut Object, schema: Schema) -> Result<()> {
    let orders: Vec<String> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in orders {
        let Some(order) = patch.remove(&directive) else { continue };
        let order = list(order)?;
        let key = directive.strip_prefix(ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/'));
        let key = key.ok_or_else(|| bad(BAD_ORDER))?;
        let live = original.get(key).filter(|v| !v.is_null()).cloned().map(list).transpose()?;
        let change = patch.get(key).filter(|v| !v.is_null()).cloned().map(list).transpose()?;
        let rule = schema.rule(key, true)?;
        check_order(change.as_deref().unwrap_or_default(), &order, rule.merge_key)?;
        let merged = match (live.clone(), change) {
            (Some(live), None) => live,
            (None, Some(change)) => change.into_iter().filter_map(without_directives).collect(),
            (Some(live), Some(change)) => merge_list_by_rule(live, change, rule, false)?,
            (None, None) => continue,
        };
        let by = Key(rule.merge_key);
        let (patched, server_only) = by.partition(merged, &order)?;
        let both = by.interleave(
            by.sorted(server_only, live.as_deref().unwrap_or_default())?,
            by.sorted(patched, &order)?,
            live.as_deref().unwrap_or_default(),
        );
        original.insert(key.to_owned(), Value::Array(both));
        patch.remove(key);
    }
    Ok(())
}

fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other_value => Err(other(format!("expected a []interface {{}}, but received a {}", go_kind(&other_value)))),
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The items a patch sets must come in the order the directive gives.
fn check_order(change: &[Value], order: &[Value], merge_key: &'static str) -> Result<()> {
    if change.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = change.iter().filter(|item| item.get(PATCH).is_none()).peekable();
    let by = Key(merge_key);
    for item in order {
        let Some(next) = wanted.peek() else { return Ok(()) };
        if by.of(next)? == by.of(item)? {
            wanted.next();
        }
    }
    match wanted.peek() {
        None => Ok(()),
        Some(_) => Err(other(format!(
            "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
            Value::from(change),
            Value::from(order)
        ))),
    }
}

fn merge_list_by_rule(old: Vec<Value>, new: Vec<Value>, rule: Rule, deletes: bool) -> Result<Vec<Value>> {
    if rule.strategy == "merge" || deletes { merge_list(old, new, rule, deletes) } else { Ok(new) }
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, rule: Rule, deletes: bool) -> Result<Vec<Value>> {
    let Some(maps) = items_are_maps(&original, &patch)? else { return Ok(original) };
    if !maps && deletes {
        return Ok(original.into_iter().filter(|item| !patch.contains(item)).collect());
    }
    let (live, patch, merged, by) = if maps {
        if rule.merge_key.is_empty() {
            return Err(other("cannot merge lists without merge key for struct".to_owned()));
        }
        let (live, patch) = special_items(original, patch, rule.merge_key)?;
        let merged = merge_items(live.clone(), &patch, rule)?;
        (live, patch, merged, Key(rule.merge_key))
    } else {
        let mut merged: Vec<Value> = Vec::new();
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        (original, patch, merged, Key(""))
    };
    let (patched, server_only) = by.partition(merged, &patch)?;
    Ok(by.interleave(by.sorted(server_only, &live)?, by.sorted(patched, &patch)?, &live))
}

/// Whether the lists hold maps; None where both are empty.
fn items_are_maps(original: &[Value], patch: &[Value]) -> Result<Option<bool>> {
    let mut kinds = original.iter().chain(patch).map(|item| match item {
        Value::Object(_) => Ok(true),
        Value::Array(_) => Err(Status::new(422, "Invalid", "lists of lists are not supported")),
        _ => Ok(false),
    });
    let Some(first) = kinds.next().transpose()? else { return Ok(None) };
    for kind in kinds {
        if kind? != first {
            return Err(other("list element types are not identical".to_owned()));
        }
    }
    Ok(Some(first))
}

/// Carries out items that are directives; returns what is left of both lists.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &'static str,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut plain_items = Vec::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
            None => plain_items.push(item),
            Some("delete") => {
                let key = Key(merge_key).of(&item)?.clone();
                original.retain(|old| old.get(merge_key) != Some(&key));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(other("merging lists cannot yet be specified in the patch".to_owned())),
            Some(unknown) => return Err(other(format!("unknown patch type: {unknown} in map: {item}"))),
        }
    }
    Ok(if replace { (plain_items, Vec::new()) } else { (original, plain_items) })
}

fn merge_items(mut original: Vec<Value>, patch: &[Value], rule: Rule) -> Result<Vec<Value>> {
    for item in patch {
        let key = Key(rule.merge_key).of(item)?;
        match original.iter_mut().find(|old| old.get(rule.merge_key) == Some(key)) {
            Some(old) => {
                if let (Value::Object(old_map), Value::Object(new)) = (old.take(), item) {
                    *old = Value::Object(merge_map(old_map, new.clone(), rule.inner)?);
                }
            }
            None => original.push(item.clone()),
        }
    }
    Ok(original)
}

/// What identifies an item: the value of a merge key, or for primitives (an empty key) the item itself.
#[derive(Clone, Copy)]
struct Key(&'static str);

impl Key {
    fn of(self, item: &Value) -> Result<&Value> {
        if self.0.is_empty() {
            return Ok(item);
        }
        item.get(self.0).ok_or_else(|| match item {
            Value::Object(_) => other(format!("map: {item} does not contain declared merge key: {}", self.0)),
            _ => other(format!("expected a map[string]interface {{}}, but received a {}", go_kind(item))),
        })
    }

    fn index(self, list: &[Value], item: &Value) -> Option<usize> {
        let key = self.of(item).ok()?;
        list.iter().position(|other| self.of(other).is_ok_and(|k| k == key))
    }

    /// Items that are in `by`, and items that are not.
    fn partition(self, items: Vec<Value>, by: &[Value]) -> Result<(Vec<Value>, Vec<Value>)> {
        for item in items.iter().chain(by) {
            self.of(item)?;
        }
        Ok(items.into_iter().partition(|item| self.index(by, item).is_some()))
    }

    fn sorted(self, mut items: Vec<Value>, order: &[Value]) -> Result<Vec<Value>> {
        for item in items.iter().chain(order) {
            self.of(item)?;
        }
        items.sort_by(|a, b| match (self.index(order, a), self.index(order, b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => Ordering::Equal,
        });
        Ok(items)
    }

    /// Puts what only the server has between what the patch has, as the live order suggests.
    fn interleave(self, server: Vec<Value>, patched: Vec<Value>, live: &[Value]) -> Vec<Value> {
        let mut out = Vec::with_capacity(server.len() + patched.len());
        let mut server = server.into_iter().peekable();
        let mut patched = patched.into_iter().peekable();
        loop {
            let server_first = match (server.peek(), patched.peek()) {
                (None, None) => return out,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(left), Some(right)) => match (self.index(live, left), self.index(live, right)) {
                    (Some(left), Some(right)) => left < right,
                    _ => false,
                },
            };
            out.extend(if server_first { server.next() } else { patched.next() });
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
