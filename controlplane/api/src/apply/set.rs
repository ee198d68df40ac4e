//! Sets of field paths, as `managedFields` keeps them (`FieldsV1`).
//!
//! A path element is kept as it is written there: `f:name`, `k:{"name":"a"}`, `v:"x"`, `i:0`. Two paths are equal when
//! their elements are.
//!
//! Must not know: schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Set {
    pub members: BTreeSet<String>,
    pub children: BTreeMap<String, Set>,
}

impl Set {
    /// From `FieldsV1`; None where it is not of that form.
    pub fn parse(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (element, below) in fields.as_object()? {
            if element == "." {
                continue;
            }
            let below = below.as_object()?;
            if below.is_empty() || below.contains_key(".") {
                set.members.insert(element.clone());
            }
            if below.keys().any(|key| key != ".") {
                let child = Self::parse(&Value::Object(below.clone()))?;
                set.children.insert(element.clone(), child);
            }
        }
        Some(set)
    }

    /// To `FieldsV1`.
    pub fn to_fields(&self) -> Value {
        let mut out = Map::new();
        for member in &self.members {
            out.insert(member.clone(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            let mut below = child.to_fields();
            if let (true, Value::Object(map)) = (self.members.contains(element), &mut below) {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            out.insert(element.clone(), below);
        }
        Value::Object(out)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    pub fn insert(&mut self, path: &[String]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Puts `child` below `element`, unless it is empty.
    pub fn put(&mut self, element: String, child: Self) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let merged = match out.children.get(element) {
                Some(own) => own.union(child),
                None => child.clone(),
            };
            out.children.insert(element.clone(), merged);
        }
        out
    }

    /// Takes up all of `other`.
    pub fn absorb(&mut self, other: Self) {
        if self.members.is_empty() && self.children.is_empty() {
            *self = other;
            return;
        }
        self.members.extend(other.members);
        for (element, child) in other.children {
            self.children.entry(element).or_default().absorb(child);
        }
    }

    /// Drops exactly the paths of `other`; what is below them stays.
    pub fn remove(&mut self, other: &Self) {
        self.members.retain(|member| !other.members.contains(member));
        self.children.retain(|element, child| {
            if let Some(theirs) = other.children.get(element) {
                child.remove(theirs);
            }
            !child.is_empty()
        });
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.intersection(&other.members).cloned().collect(), ..Self::default() };
        for (element, child) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                out.put(element.clone(), child.intersection(theirs));
            }
        }
        out
    }

    /// Without exactly the paths of `other`; what is below them stays.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.difference(&other.members).cloned().collect(), ..Self::default() };
        for (element, child) in &self.children {
            let left = other.children.get(element).map_or_else(|| child.clone(), |theirs| child.difference(theirs));
            out.put(element.clone(), left);
        }
        out
    }

    /// Without the paths of `other` and everything below them.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.difference(&other.members).cloned().collect(), ..Self::default() };
        for (element, child) in self.children.iter().filter(|(element, _)| !other.members.contains(*element)) {
            let theirs = other.children.get(element);
            out.put(element.clone(), theirs.map_or_else(|| child.clone(), |theirs| child.recursive_difference(theirs)));
        }
        out
    }

    /// Every path, members of a level before what is below it.
    pub fn paths(&self) -> Vec<Vec<&str>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect<'a>(&'a self, path: &mut Vec<&'a str>, out: &mut Vec<Vec<&'a str>>) {
        for member in &self.members {
            path.push(member);
            out.push(path.clone());
            path.pop();
        }
        for (element, child) in &self.children {
            path.push(element);
            child.collect(path, out);
            path.pop();
        }
    }
}

/// A path as conflicts show it: `.spec.containers[name="a"].image`.
pub(super) fn shown(path: &[&str]) -> String {
    path.iter().map(|element| shown_element(element)).collect()
}

fn shown_element(element: &str) -> String {
    let (kind, text) = element.split_at(element.len().min(2));
    let value = || serde_json::from_str::<Value>(text).unwrap_or_default();
    match kind {
        "f:" => format!(".{text}"),
        "k:" => {
            let keys = value();
            let pairs = keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
            format!("[{}]", pairs.collect::<Vec<_>>().join(","))
        }
        "v:" => format!("[={}]", value()),
        _ => format!("[{text}]"),
    }
}

pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}
