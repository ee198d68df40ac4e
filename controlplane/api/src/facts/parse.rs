//! Reads the generated table.
//!
//! A line beginning with `#` opens a package (import path, API group), one beginning with a letter a type (name, `K`
//! for a kind, `A` for an atomic struct), one beginning with a space a field: JSON name (`.` when inlined), shape,
//! protobuf number, flags. Shapes: a letter per scalar (see [`scalar`]), `@Type` or `@core/v1.Type`, `[` a list, `{` a map
//! from strings, `*` a pointer, `'name'` the Go name of a named type, `~` a list that protobuf wraps. Flags: `o`
//! omitempty, `z` omitzero, `r` required, `L=` list type, `k=` list keys, `M=` map type, `p=` and `m=` patch strategy and
//! merge key, `d=` default as JSON.
//!
//! The table is our own and embedded: what does not parse is a defect of the generator, which the tests would show, so
//! such lines yield `Json` shapes or are left out instead of a panic.
//!
//! Must not know: what a field means.

use std::sync::OnceLock;

use super::{Elem, Field, ListType, MapType, Package, Shape, Type};

pub(super) const TEXT: &str = include_str!("generated/facts.txt");
const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";

pub(super) struct Table {
    /// Ordered by package path, then name.
    pub types: Vec<Type>,
    /// Indices into `types` of kinds, ordered by group, version and name.
    kinds: Vec<u16>,
}

pub(super) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(read)
}

impl Table {
    pub fn kind(&'static self, group: &str, version: &str, kind: &str) -> Option<&'static Type> {
        let key = |at: &u16| {
            let ty = &self.types[usize::from(*at)];
            (ty.package.group, ty.package.version, ty.name)
        };
        let found = self.kinds.binary_search_by(|at| key(at).cmp(&(group, version, kind))).ok()?;
        self.types.get(usize::from(self.kinds[found]))
    }

    pub fn shared_kind(&'static self, kind: &str) -> Option<&'static Type> {
        self.exact(META, kind).filter(|ty| ty.kind)
    }

    pub fn named(&'static self, package: &str, name: &str) -> Option<&'static Type> {
        self.types.iter().find(|ty| ty.name == name && ends_with_parts(ty.package.path, package))
    }

    fn exact(&'static self, path: &str, name: &str) -> Option<&'static Type> {
        let found = self.types.binary_search_by(|ty| (ty.package.path, ty.name).cmp(&(path, name))).ok()?;
        self.types.get(found)
    }
}

fn ends_with_parts(path: &str, tail: &str) -> bool {
    path.strip_suffix(tail).is_some_and(|head| head.ends_with('/'))
}

/// Finds packages and types; the lines of fields are only delimited.
fn read() -> Table {
    let mut types: Vec<Type> = Vec::new();
    let mut package: Option<&'static Package> = None;
    let mut rest = TEXT;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if let Some(header) = line.strip_prefix('#') {
            package = Some(read_package(header));
        } else if let Some(package) = package {
            let end = body_end(rest);
            types.push(read_type(line, package, &rest[..end]));
            rest = &rest[end..];
        }
    }
    types.sort_by_key(|ty| (ty.package.path, ty.name));
    let mut kinds: Vec<u16> = (0..types.len() as u16).filter(|at| types[usize::from(*at)].kind).collect();
    kinds.sort_by_key(|at| {
        let ty = &types[usize::from(*at)];
        (ty.package.group, ty.package.version, ty.name)
    });
    Table { types, kinds }
}

fn read_package(header: &'static str) -> &'static Package {
    let (path, group) = header.split_once(' ').unwrap_or((header, ""));
    let version = path.rsplit('/').next().unwrap_or_default();
    // the shared types belong to no group: they are found by name, after the group's own
    let group = if path == META { "meta.k8s.io" } else { group };
    // one of some sixty, kept for the life of the process like the types that point at it
    Box::leak(Box::new(Package { path, group, version }))
}

/// Where the lines that begin with a space end.
fn body_end(text: &str) -> usize {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if !line.starts_with(' ') {
            break;
        }
        end += line.len();
    }
    end
}

fn read_type(line: &'static str, package: &'static Package, text: &'static str) -> Type {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let (mut kind, mut atomic) = (false, false);
    for flag in words {
        kind |= flag == "K";
        atomic |= flag == "A";
    }
    Type { name, package, kind, atomic, open: false, text, members: OnceLock::new(), flat: OnceLock::new() }
}

pub(super) fn members(ty: &Type) -> Box<[Field]> {
    ty.text.lines().filter_map(|line| field(line.strip_prefix(' ')?, ty.package)).collect()
}

fn field(line: &'static str, package: &Package) -> Option<Field> {
    let mut words = line.splitn(4, ' ');
    let name = words.next()?;
    let elem = elem(words.next()?, package);
    let number = words.next()?.parse().ok()?;
    let mut field = Field {
        name: if name == "." { "" } else { name },
        elem,
        number,
        omitempty: false,
        omitzero: false,
        required: false,
        list_type: None,
        list_keys: Vec::new(),
        map_type: None,
        patch_strategy: "",
        patch_merge_key: "",
        default: None,
    };
    flags(words.next().unwrap_or_default(), &mut field);
    Some(field)
}

fn flags(mut text: &'static str, field: &mut Field) {
    while !text.is_empty() {
        if let Some(default) = text.strip_prefix("d=") {
            // last, and may hold spaces
            field.default = Some(default);
            return;
        }
        let (flag, rest) = text.split_once(' ').unwrap_or((text, ""));
        flag_into(flag, field);
        text = rest;
    }
}

fn flag_into(flag: &'static str, field: &mut Field) {
    match flag.split_once('=').unwrap_or((flag, "")) {
        ("o", _) => field.omitempty = true,
        ("z", _) => field.omitzero = true,
        ("r", _) => field.required = true,
        ("L", "set") => field.list_type = Some(ListType::Set),
        ("L", "map") => field.list_type = Some(ListType::Map),
        ("L", _) => field.list_type = Some(ListType::Atomic),
        ("k", keys) => field.list_keys = keys.split(',').collect(),
        ("M", "granular") => field.map_type = Some(MapType::Granular),
        ("M", _) => field.map_type = Some(MapType::Atomic),
        ("p", strategy) => field.patch_strategy = strategy,
        ("m", key) => field.patch_merge_key = key,
        _ => {}
    }
}

fn elem(mut text: &'static str, package: &Package) -> Elem {
    let (mut pointer, mut named, mut wrapped) = (false, "", false);
    loop {
        let mut chars = text.chars();
        match chars.next() {
            Some('*') => pointer = true,
            Some('~') => wrapped = true,
            Some('\'') => {
                let (name, rest) = chars.as_str().split_once('\'').unwrap_or_default();
                named = name;
                text = rest;
                continue;
            }
            _ => return Elem { shape: shape(text, package), pointer, named, wrapped },
        }
        text = chars.as_str();
    }
}

fn shape(text: &'static str, package: &Package) -> Shape {
    let Some(rest) = text.get(1..) else { return Shape::Json };
    match text.as_bytes()[0] {
        b'[' => Shape::List(Box::new(elem(rest, package))),
        b'{' => Shape::Map(Box::new(elem(rest, package))),
        b'@' => reference(rest, package).map_or(Shape::Json, Shape::Struct),
        letter => scalar(letter),
    }
}

fn reference(text: &str, package: &Package) -> Option<&'static Type> {
    match text.rsplit_once('.') {
        Some((package, name)) => table().named(package, name),
        None => table().exact(package.path, text),
    }
}

fn scalar(letter: u8) -> Shape {
    match letter {
        b's' => Shape::String,
        b'b' => Shape::Bool,
        b'i' => Shape::Int32,
        b'l' => Shape::Int64,
        b'n' => Shape::Uint8,
        b'f' => Shape::Float64,
        b'y' => Shape::Bytes,
        b'q' => Shape::Quantity,
        b'x' => Shape::IntOrString,
        b't' => Shape::Time,
        b'u' => Shape::MicroTime,
        b'd' => Shape::Duration,
        b'R' => Shape::Raw,
        b'F' => Shape::Fields,
        b'A' => Shape::SchemaOrArray,
        b'B' => Shape::SchemaOrBool,
        b'P' => Shape::SchemaOrStringArray,
        _ => Shape::Json,
    }
}
