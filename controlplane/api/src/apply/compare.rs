//! What differs between two objects, and what one object says, as sets of paths.
//!
//! Must not know: managers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::schema::{Kind, item_element};
use super::set::{Set, field};
use crate::facts::{Elem, Type};

#[derive(Default)]
pub(super) struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    /// Without what the request cannot change.
    pub fn without(self, reset: &Set) -> Self {
        if reset.is_empty() {
            return self;
        }
        Self {
            removed: self.removed.recursive_difference(reset),
            modified: self.modified.recursive_difference(reset),
            added: self.added.recursive_difference(reset),
        }
    }

    pub fn changed(&self) -> Set {
        self.modified.union(&self.added)
    }

    pub fn into_changed(mut self) -> Set {
        self.modified.absorb(self.added);
        self.modified
    }
}

pub(super) fn compare(old: &Value, new: &Value, ty: &'static Type) -> Comparison {
    let mut walker = Walker::default();
    walker.value(Kind::Struct(ty), Some(old), Some(new));
    walker.found
}

#[derive(Default)]
struct Walker {
    path: Vec<String>,
    found: Comparison,
}

type Side<'a> = Option<&'a Value>;

impl Walker {
    fn value(&mut self, kind: Kind, old: Side<'_>, new: Side<'_>) {
        let empty = |side: Side<'_>| match side {
            None | Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        let kind = kind.deduced(old, new);
        if matches!(kind, Kind::Leaf) || (empty(old) && empty(new)) {
            return self.leaf(old, new);
        }
        match kind {
            Kind::Items(keys, item) => self.items(keys, item, old, new),
            kind => self.fields(kind, old, new),
        }
        match (old, new) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            _ => {}
        }
    }

    fn leaf(&mut self, old: Side<'_>, new: Side<'_>) {
        match (old, new) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            (old, new) if old != new => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn below(&mut self, element: String, kind: Kind, old: Side<'_>, new: Side<'_>) {
        self.path.push(element);
        self.value(kind, old, new);
        self.path.pop();
    }

    fn fields(&mut self, kind: Kind, old: Side<'_>, new: Side<'_>) {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        for (name, value) in old.into_iter().flatten() {
            self.below(field(name), kind.child(name).0, Some(value), new.and_then(|map| map.get(name)));
        }
        for (name, value) in new.into_iter().flatten() {
            if old.is_none_or(|map| !map.contains_key(name)) {
                self.below(field(name), kind.child(name).0, None, Some(value));
            }
        }
    }

    fn items(&mut self, keys: &'static [&'static str], item: &'static Elem, old: Side<'_>, new: Side<'_>) {
        let mut sides: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for value in list(old) {
            if let Ok(element) = item_element(keys, item, value) {
                sides.entry(element).or_default().0.push(value);
            }
        }
        for value in list(new) {
            if let Ok(element) = item_element(keys, item, value) {
                sides.entry(element).or_default().1.push(value);
            }
        }
        for (element, (old, new)) in sides {
            self.item(element, Kind::of(item), &old, &new);
        }
    }

    /// One key of a list; items that are there twice are owned as one.
    fn item(&mut self, element: String, kind: Kind, old: &[&Value], new: &[&Value]) {
        if old.len() <= 1 && new.len() <= 1 {
            return self.below(element, kind, old.first().copied(), new.first().copied());
        }
        if old.len() >= 2 && new.len() >= 2 {
            if old != new {
                self.mark(element, |found| &mut found.modified);
            }
        } else if old.len() >= 2 {
            if let Some(one) = new.first() {
                self.below(element.clone(), kind, None, Some(one));
            }
            self.mark(element, |found| &mut found.removed);
        } else {
            if let Some(one) = old.first() {
                self.below(element.clone(), kind, Some(one), None);
            }
            self.mark(element, |found| &mut found.added);
        }
    }

    fn mark(&mut self, element: String, set: impl Fn(&mut Comparison) -> &mut Set) {
        self.path.push(element);
        set(&mut self.found).insert(&self.path);
        self.path.pop();
    }
}

fn list(side: Side<'_>) -> impl Iterator<Item = &Value> {
    side.and_then(Value::as_array).into_iter().flatten()
}

/// The paths that an applied object says something about.
pub(super) fn field_set(object: &Value, ty: &'static Type) -> Set {
    let mut set = Set::default();
    collect(object, Kind::Struct(ty), &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, kind: Kind, path: &mut Vec<String>, set: &mut Set) {
    match (kind.deduced(Some(value), None), value) {
        (Kind::Leaf, _) => set.insert(path),
        (Kind::Items(keys, item), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for value in items {
                let Ok(element) = item_element(keys, item, value) else { continue };
                let first = seen.insert(element.clone());
                path.push(element);
                if first {
                    collect(value, Kind::of(item), path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        (kind @ (Kind::Struct(_) | Kind::Map(_) | Kind::Untyped), Value::Object(map)) => {
            for (name, value) in map {
                let (child, named) = kind.child(name);
                path.push(field(name));
                collect(value, child, path, set);
                let bare = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if bare || !named {
                    set.insert(path);
                }
                path.pop();
            }
        }
        _ => {}
    }
}
