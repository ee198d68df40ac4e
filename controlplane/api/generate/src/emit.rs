//! Writes what the packages declare as the compact table `pintle-api` reads: every type that a kind reaches.
//!
//! Must not know: files. The format is documented at its reader, `pintle-api`'s `facts/parse.rs`.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::go::{Body, Declaration, Member, Package, marker};

const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";
const WATCH_EVENT: &str = "WatchEvent";

/// Types with a decoder of their own, by import path and name, and the letter of their shape.
const SPECIAL: &[(&str, &str, &str)] = &[
    (META, "Time", "t"),
    (META, "MicroTime", "u"),
    (META, "Duration", "d"),
    (META, "FieldsV1", "F"),
    ("k8s.io/apimachinery/pkg/runtime", "RawExtension", "R"),
    ("k8s.io/apimachinery/pkg/api/resource", "Quantity", "q"),
    ("k8s.io/apimachinery/pkg/util/intstr", "IntOrString", "x"),
    ("k8s.io/apimachinery/pkg/types", "UID", "'types.UID's"),
    ("k8s.io/apimachinery/pkg/types", "NodeName", "'types.NodeName's"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSON", "J"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaPropsOrArray", "A"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaPropsOrBool", "B"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaPropsOrStringArray", "P"),
];

const BASIC: &[(&str, &str)] = &[
    ("string", "s"),
    ("bool", "b"),
    ("int32", "i"),
    ("int64", "l"),
    ("int", "l"),
    ("uint8", "n"),
    ("float64", "f"),
    ("[]byte", "y"),
    ("interface{}", "J"),
];

type Id = (usize, String);

struct Emitter<'a> {
    packages: &'a [Package],
    by_path: HashMap<&'a str, usize>,
    wanted: Vec<Id>,
    seen: BTreeSet<Id>,
}

/// The whole table as text.
pub fn facts(packages: &[Package]) -> Result<String> {
    let by_path = packages.iter().enumerate().map(|(i, p)| (p.path.as_str(), i)).collect();
    let mut emitter = Emitter { packages, by_path, wanted: Vec::new(), seen: BTreeSet::new() };
    for (at, package) in packages.iter().enumerate() {
        for (name, declaration) in &package.declarations {
            if is_kind(package, name, declaration) {
                emitter.want(at, name);
            }
        }
    }
    let mut written: Vec<(Id, String)> = Vec::new();
    while let Some(id) = emitter.wanted.pop() {
        let text = emitter.type_text(&id).with_context(|| format!("{}.{}", packages[id.0].path, id.1))?;
        written.push((id, text));
    }
    written.sort();
    Ok(layout(packages, &written))
}

fn layout(packages: &[Package], written: &[(Id, String)]) -> String {
    let mut out = String::new();
    for (at, package) in packages.iter().enumerate() {
        let _ = writeln!(out, "#{} {}", package.path, package.group);
        for (_, text) in written.iter().filter(|((package, _), _)| *package == at) {
            out.push_str(text);
        }
    }
    out
}

fn is_kind(package: &Package, name: &str, declaration: &Declaration) -> bool {
    let Body::Struct(members) = &declaration.body else { return false };
    let inlines = |m: &Member| m.name.is_empty() && m.expression.rsplit('.').next() == Some("TypeMeta");
    let internal = package.path == META && name == "InternalEvent";
    !internal && (members.iter().any(inlines) || (package.path == META && name == WATCH_EVENT))
}

impl Emitter<'_> {
    fn want(&mut self, package: usize, name: &str) {
        let id = (package, name.to_owned());
        if self.seen.insert(id.clone()) {
            self.wanted.push(id);
        }
    }

    fn type_text(&mut self, (at, name): &Id) -> Result<String> {
        let package = &self.packages[*at];
        let declaration = package.declarations.get(name).context("not declared")?;
        let Body::Struct(members) = &declaration.body else { bail!("not a struct") };
        let mut out = name.clone();
        if is_kind(package, name, declaration) {
            out.push_str(" K");
        }
        if marker(&declaration.markers, "structType") == Some("atomic") {
            out.push_str(" A");
        }
        out.push('\n');
        for member in members {
            if let Some(line) = self.field_text(*at, name, declaration, member)? {
                let _ = writeln!(out, " {line}");
            }
        }
        Ok(out)
    }

    fn field_text(
        &mut self,
        at: usize,
        owner: &str,
        declaration: &Declaration,
        member: &Member,
    ) -> Result<Option<String>> {
        let json = member.tag("json").with_context(|| format!("no json tag on {:?}", member.expression))?;
        let mut options = json.split(',');
        let name = options.next().unwrap_or_default();
        let options: Vec<&str> = options.collect();
        if name == "-" {
            return Ok(None);
        }
        let shape = self.shape(at, declaration, &member.expression)?;
        let inline = options.contains(&"inline");
        let number = self.number(at, owner, name, member);
        let mut out = format!("{} {shape} {number}", if inline { "." } else { name });
        out.push_str(&flags(&options, member));
        self.default(at, member, &mut out)?;
        Ok(Some(out))
    }

    fn number(&self, at: usize, owner: &str, name: &str, member: &Member) -> u32 {
        let tagged = member.tag("protobuf").and_then(|t| t.split(',').nth(1)).and_then(|n| n.parse().ok());
        let key = (owner.to_owned(), name.to_owned());
        tagged.or_else(|| self.packages[at].numbers.get(&key).copied()).unwrap_or(0)
    }

    fn default(&self, at: usize, member: &Member, out: &mut String) -> Result<()> {
        let Some(value) = marker(&member.markers, "default") else { return Ok(()) };
        let value = match value.strip_prefix("ref(").and_then(|v| v.strip_suffix(')')) {
            Some(name) => format!("{:?}", self.packages[at].constants.get(name).context("unknown constant")?),
            None => value.to_owned(),
        };
        let _ = write!(out, " d={value}");
        Ok(())
    }

    /// The shape of a Go type expression, see `facts/parse.rs`.
    fn shape(&mut self, at: usize, declaration: &Declaration, expression: &str) -> Result<String> {
        if let Some((_, letter)) = BASIC.iter().find(|(name, _)| *name == expression) {
            return Ok((*letter).to_owned());
        }
        if let Some(rest) = expression.strip_prefix('*') {
            return Ok(format!("*{}", self.shape(at, declaration, rest)?));
        }
        if let Some(rest) = expression.strip_prefix("[]") {
            return Ok(format!("[{}", self.shape(at, declaration, rest)?));
        }
        if let Some(rest) = expression.strip_prefix("map[") {
            let (_, value) = rest.split_once(']').context("a map without a value")?;
            return Ok(format!("{{{}", self.shape(at, declaration, value)?));
        }
        match expression.split_once('.') {
            Some((alias, name)) => {
                let path = declaration.imports.get(alias).with_context(|| format!("unknown import {alias}"))?.clone();
                self.named(at, &path, name)
            }
            None => self.named(at, &self.packages[at].path.clone(), expression),
        }
    }

    fn named(&mut self, from: usize, path: &str, name: &str) -> Result<String> {
        if let Some((_, _, letter)) = SPECIAL.iter().find(|(p, n, _)| *p == path && *n == name) {
            return Ok((*letter).to_owned());
        }
        let at = *self.by_path.get(path).with_context(|| format!("no package {path} (for {name})"))?;
        let packages = self.packages;
        let declaration = packages[at].declarations.get(name).with_context(|| format!("no type {path}.{name}"))?;
        match &declaration.body {
            Body::Struct(_) => {
                self.want(at, name);
                let prefix = if at == from { String::new() } else { format!("{}.", short(path)) };
                Ok(format!("@{prefix}{name}"))
            }
            Body::Named(underlying) => {
                let shape = self.shape(at, declaration, underlying)?;
                // a named slice is a message of its own in protobuf where generated.proto declares one
                let message = packages[at].numbers.contains_key(&(name.to_owned(), "items".to_owned()));
                let wrap = if message && shape.starts_with('[') { "~" } else { "" };
                let base = path.rsplit('/').next().unwrap_or(path);
                Ok(format!("'{base}.{name}'{wrap}{}", shape.rsplit('\'').next().unwrap_or(&shape)))
            }
        }
    }
}

/// `core/v1`: how a type of another package is named.
fn short(path: &str) -> String {
    let mut parts: Vec<&str> = path.rsplit('/').take(2).collect();
    parts.reverse();
    parts.join("/")
}

fn flags(options: &[&str], member: &Member) -> String {
    let mut out = String::new();
    let omitted = options.contains(&"omitempty") || options.contains(&"omitzero");
    let markers = &member.markers;
    let optional = marker(markers, "required").is_none() && (marker(markers, "optional").is_some() || omitted);
    for (set, flag) in
        [(options.contains(&"omitempty"), " o"), (options.contains(&"omitzero"), " z"), (!optional, " r")]
    {
        if set && !options.contains(&"inline") {
            out.push_str(flag);
        }
    }
    for (name, flag) in [("listType", "L"), ("mapType", "M"), ("structType", "M")] {
        if let Some(value) = marker(markers, name) {
            let _ = write!(out, " {flag}={value}");
        }
    }
    let keys: Vec<&str> = markers.iter().filter(|(n, _)| n == "listMapKey").map(|(_, v)| v.as_str()).collect();
    if !keys.is_empty() {
        let _ = write!(out, " k={}", keys.join(","));
    }
    for (tag, flag) in [("patchStrategy", "p"), ("patchMergeKey", "m")] {
        if let Some(value) = member.tag(tag) {
            let _ = write!(out, " {flag}={value}");
        }
    }
    out
}
