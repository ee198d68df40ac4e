//! Reads the type declarations of one Go package: just enough Go for Kubernetes' API types.
//!
//! Must not know: how facts are written.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::proto;

/// One package: its import path, its API group and what it declares.
pub struct Package {
    pub path: String,
    pub group: String,
    pub declarations: BTreeMap<String, Declaration>,
    /// String constants, which `+default=ref(Name)` names.
    pub constants: HashMap<String, String>,
    pub numbers: HashMap<(String, String), u32>,
}

pub struct Declaration {
    pub markers: Vec<(String, String)>,
    pub body: Body,
    /// What the package names of the declaring file stand for.
    pub imports: HashMap<String, String>,
}

pub enum Body {
    Struct(Vec<Member>),
    /// `type Phase string`, `type ResourceList map[...]...`: the underlying type's expression.
    Named(String),
}

/// A struct's member. Embedded ones have an empty name.
pub struct Member {
    pub name: String,
    pub expression: String,
    pub tag: String,
    pub markers: Vec<(String, String)>,
}

impl Member {
    /// The value of one key of the struct tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let start = self.tag.find(&format!("{key}:\""))? + key.len() + 2;
        self.tag[start..].split('"').next()
    }
}

/// The first value of a marker: `+name=value`, or empty for `+name`.
pub fn marker<'a>(markers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    markers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

pub fn read_package(staging: &Path, path: &str) -> Result<Package> {
    let dir = staging.join(path);
    let mut package = Package {
        path: path.to_owned(),
        group: String::new(),
        declarations: BTreeMap::new(),
        constants: HashMap::new(),
        numbers: proto::numbers(&std::fs::read_to_string(dir.join("generated.proto")).context("read generated.proto")?),
    };
    for entry in std::fs::read_dir(&dir)? {
        let file = entry?.path();
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let generated = name.starts_with("zz_") || name.starts_with("generated") || name.contains("swagger");
        if name.ends_with(".go") && !name.ends_with("_test.go") && !generated {
            read_file(&std::fs::read_to_string(&file)?, &mut package);
        }
    }
    if package.group.is_empty() && path.contains("apiextensions") {
        package.group = "apiextensions.k8s.io".to_owned();
    }
    Ok(package)
}

fn read_file(text: &str, package: &mut Package) {
    let imports = imports(text);
    let mut markers = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("// +") {
            markers.push(split_marker(found));
            continue;
        }
        constant(line, package);
        if let Some(rest) = line.strip_prefix("type ") {
            declaration(rest, &mut lines, std::mem::take(&mut markers), &imports, package);
        } else if !line.is_empty() && !line.starts_with("//") {
            markers.clear();
        }
    }
}

fn declaration<'a>(
    rest: &str,
    lines: &mut impl Iterator<Item = &'a str>,
    markers: Vec<(String, String)>,
    imports: &HashMap<String, String>,
    package: &mut Package,
) {
    let Some((name, expression)) = rest.split_once(' ') else { return };
    let body = match expression.trim() {
        "struct {" => Body::Struct(members(lines)),
        "struct{}" | "struct {}" => Body::Struct(Vec::new()),
        other => Body::Named(other.trim_start_matches("= ").split(" //").next().unwrap_or_default().trim().to_owned()),
    };
    package.declarations.insert(name.to_owned(), Declaration { markers, body, imports: imports.clone() });
}

fn members<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Member> {
    let mut found = Vec::new();
    let mut markers = Vec::new();
    let mut comment = false;
    for line in lines {
        if line.starts_with('}') {
            break;
        }
        let line = line.trim();
        if comment || line.starts_with("/*") {
            comment = !line.ends_with("*/");
            continue;
        }
        if let Some(rest) = line.strip_prefix("//") {
            if let Some(text) = rest.trim_start().strip_prefix('+') {
                markers.push(split_marker(text));
            }
        } else if line.is_empty() {
            markers.clear();
        } else {
            found.extend(member(line, std::mem::take(&mut markers)));
        }
    }
    found
}

/// `Name Type` or `Type`, then the tag between backquotes.
fn member(line: &str, markers: Vec<(String, String)>) -> Option<Member> {
    let mut parts = line.splitn(3, '`');
    let head = parts.next()?.split("//").next()?.trim();
    let tag = parts.next().unwrap_or_default().to_owned();
    let (name, expression) = match head.split_once(char::is_whitespace) {
        Some((name, expression)) => (name, expression.trim()),
        None => ("", head),
    };
    Some(Member { name: name.to_owned(), expression: expression.to_owned(), tag, markers })
}

fn split_marker(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim().to_owned(), value.trim().to_owned())
}

/// `Name Type = "value"` and `const GroupName = "value"`.
fn constant(line: &str, package: &mut Package) {
    let Some((head, value)) = line.trim().trim_start_matches("const ").split_once(" = \"") else { return };
    let Some(name) = head.split_whitespace().next() else { return };
    let value = value.split('"').next().unwrap_or_default();
    if name == "GroupName" {
        value.clone_into(&mut package.group);
    }
    package.constants.insert(name.to_owned(), value.to_owned());
}

/// What each package name of a file stands for; imports without an alias go by their last part.
fn imports(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for line in text.lines().map(str::trim) {
        let line = line.trim_start_matches("import ");
        let Some((alias, rest)) = line.split_once('"') else { continue };
        let Some(path) = rest.strip_suffix('"') else { continue };
        let alias = match alias.trim() {
            "" => path.rsplit('/').next().unwrap_or(path),
            named => named,
        };
        if !alias.contains(' ') && !alias.contains('\t') {
            found.insert(alias.to_owned(), path.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const GroupName = "sample.k8s.io"

// +structType=atomic
type Thing struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	// +listType=map
	// +listMapKey=name
	Parts []Part `json:"parts,omitempty" patchStrategy:"merge" protobuf:"bytes,2,rep,name=parts"`

	/* Skipped int `json:"skipped"`
	*/
	Mode Mode `json:"mode"` // a remark
}

type Mode string
"#;

    #[test]
    fn types_tags_and_markers_are_read() {
        let mut package = Package {
            path: "k8s.io/api/sample/v1".to_owned(),
            group: String::new(),
            declarations: BTreeMap::new(),
            constants: HashMap::new(),
            numbers: HashMap::new(),
        };
        read_file(SOURCE, &mut package);
        assert_eq!(package.group, "sample.k8s.io");
        let thing = &package.declarations["Thing"];
        assert_eq!(marker(&thing.markers, "structType"), Some("atomic"));
        let Body::Struct(members) = &thing.body else { panic!("a struct") };
        let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["", "Parts", "Mode"]);
        assert_eq!((members[1].expression.as_str(), members[1].tag("patchStrategy")), ("[]Part", Some("merge")));
        assert_eq!(marker(&members[1].markers, "listMapKey"), Some("name"));
        assert!(members[2].markers.is_empty());
        assert!(matches!(&package.declarations["Mode"].body, Body::Named(name) if name == "string"));
    }
}
