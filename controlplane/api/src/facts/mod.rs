//! API facts: what upstream's Go types say about every field of every kind, in one table.
//!
//! Canonical form, protobuf, strict decoding, patches, server-side apply and OpenAPI all read it. The table itself
//! (`generated/facts.txt`) is written by `pintle-api-generate` from an upstream checkout; a type's fields are parsed
//! when they are first asked for.
//!
//! Must not know: which kinds are served, or what their values mean.

mod parse;

use std::fmt;
use std::sync::OnceLock;

/// One Go package of API types.
#[derive(Debug)]
pub struct Package {
    /// The import path: `k8s.io/api/apps/v1`.
    pub path: &'static str,
    /// The API group; empty for the core group and for the types every group shares.
    pub group: &'static str,
    /// The package's name, which is the API version: `v1`.
    pub version: &'static str,
}

/// One struct. Compare with [`std::ptr::eq`]: the table has each type once.
pub struct Type {
    pub name: &'static str,
    pub package: &'static Package,
    /// Whether it has `kind` and `apiVersion` of its own.
    pub kind: bool,
    /// `+structType=atomic`: applied and owned as a whole.
    pub atomic: bool,
    /// Fields beside the listed ones are whatever they are: a custom resource.
    pub open: bool,
    text: &'static str,
    members: OnceLock<Box<[Field]>>,
    flat: OnceLock<Flat>,
}

/// A struct's fields as JSON shows them: inlined structs dissolved, in the order in which Go writes them.
struct Flat {
    fields: Box<[FlatField]>,
    /// Indices into `fields`, ordered by name.
    by_name: Box<[u16]>,
    /// Those that Go writes even when they are zero.
    always: Box<[u16]>,
    /// Indices into the members, ordered by protobuf number; those without one are left out.
    by_number: Box<[u16]>,
}

/// A field together with the inlined structs it comes through.
#[derive(Debug)]
pub struct FlatField {
    pub field: &'static Field,
    /// Names of the inlined structs, outermost first: Go's decode errors show them.
    pub through: Vec<&'static str>,
}

/// One member of a struct.
#[derive(Debug)]
pub struct Field {
    /// The JSON name; empty for an inlined struct.
    pub name: &'static str,
    pub elem: Elem,
    /// The protobuf field number; 0 where it is not part of the message.
    pub number: u32,
    pub omitempty: bool,
    pub omitzero: bool,
    /// Whether OpenAPI lists it as required.
    pub required: bool,
    pub list_type: Option<ListType>,
    /// `+listMapKey`.
    pub list_keys: Vec<&'static str>,
    /// `+mapType` or `+structType` on the field.
    pub map_type: Option<MapType>,
    /// `patchStrategy`: `merge`, `retainKeys`, `merge,retainKeys`, `replace`; empty where there is none.
    pub patch_strategy: &'static str,
    pub patch_merge_key: &'static str,
    /// The static default (`+default`), as JSON.
    pub default: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    Granular,
}

/// What a field, an item of a list or a value of a map holds.
#[derive(Debug)]
pub struct Elem {
    pub shape: Shape,
    /// A Go pointer: absent and zero differ.
    pub pointer: bool,
    /// The name of a named Go type: `v1.Protocol`.
    pub named: &'static str,
    /// A named slice that protobuf wraps into a message of its own (`ExtraValue`, `Verbs`).
    pub wrapped: bool,
}

#[derive(Debug)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Uint8,
    Float64,
    /// `[]byte`: base64 in JSON.
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
    /// `runtime.RawExtension`: any JSON object.
    Raw,
    /// `metav1.FieldsV1`.
    Fields,
    /// Any JSON value at all.
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStringArray,
    Struct(&'static Type),
    List(Box<Elem>),
    Map(Box<Elem>),
}

/// The type of a kind. Kinds every group shares (`Status`, `DeleteOptions`, `WatchEvent`, …) are found in any group.
pub fn type_of(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let table = parse::table();
    table.kind(group, version, kind).or_else(|| table.shared_kind(kind))
}

/// As [`type_of`], from an object's `apiVersion`: `v1`, `apps/v1`.
pub fn type_of_api_version(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    type_of(group, version, kind)
}

/// A struct by the last two parts of its package's path and its name: `("meta/v1", "LabelSelector")`.
pub fn type_named(package: &str, name: &str) -> Option<&'static Type> {
    parse::table().named(package, name)
}

/// Every struct in the table, by package and name.
pub fn types() -> &'static [Type] {
    &parse::table().types
}

/// Tells one version of the table from another.
pub fn fingerprint() -> &'static [u8] {
    parse::TEXT.as_bytes()
}

/// The type of a kind of which only the metadata is known.
pub fn with_metadata(group: &'static str, version: &'static str, kind: &'static str) -> Type {
    Type {
        name: kind,
        package: Box::leak(Box::new(Package { path: "", group, version })),
        kind: true,
        atomic: false,
        open: true,
        text: " . @meta/v1.TypeMeta 0\n metadata @meta/v1.ObjectMeta 1 o\n",
        members: OnceLock::new(),
        flat: OnceLock::new(),
    }
}

impl Type {
    /// The members as declared, inlined structs included: what protobuf sees.
    pub fn members(&'static self) -> &'static [Field] {
        self.members.get_or_init(|| parse::members(self))
    }

    /// The fields as JSON has them, in Go's order.
    pub fn fields(&'static self) -> &'static [FlatField] {
        &self.flat().fields
    }

    /// A field by its JSON name.
    pub fn field(&'static self, name: &str) -> Option<&'static Field> {
        self.position(name).map(|at| self.fields()[at].field)
    }

    /// The position of a field in [`Type::fields`].
    pub fn position(&'static self, name: &str) -> Option<usize> {
        let flat = self.flat();
        let found = flat.by_name.binary_search_by(|at| flat.fields[usize::from(*at)].field.name.cmp(name)).ok()?;
        Some(usize::from(flat.by_name[found]))
    }

    /// The fields that are written even when zero.
    pub fn always(&'static self) -> impl Iterator<Item = &'static Field> {
        let flat = self.flat();
        flat.always.iter().map(|at| flat.fields[usize::from(*at)].field)
    }

    /// The members that protobuf has, by their numbers.
    pub fn by_number(&'static self) -> impl Iterator<Item = &'static Field> {
        self.flat().by_number.iter().map(|at| &self.members()[usize::from(*at)])
    }

    /// How Go prints the type: `v1.PodSpec`.
    pub fn go_name(&self) -> String {
        format!("{}.{}", self.package.version, self.name)
    }

    /// How OpenAPI names the type: `io.k8s.api.apps.v1.Deployment`.
    pub fn openapi_name(&self) -> String {
        let path = self.package.path.trim_start_matches("k8s.io/").replace('/', ".");
        format!("io.k8s.{path}.{}", self.name)
    }

    fn flat(&'static self) -> &'static Flat {
        self.flat.get_or_init(|| Flat::of(self))
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.package.path, self.name)
    }
}

impl Flat {
    fn of(ty: &'static Type) -> Self {
        let mut fields = Vec::new();
        flatten(ty, &[], &mut fields);
        let mut by_name: Vec<u16> = (0..fields.len() as u16).collect();
        by_name.sort_by_key(|at| fields[usize::from(*at)].field.name);
        let always = (0..fields.len() as u16).filter(|at| fields[usize::from(*at)].field.always()).collect();
        let members = ty.members();
        let mut by_number: Vec<u16> = (0..members.len() as u16).collect();
        by_number.retain(|at| members[usize::from(*at)].number > 0);
        by_number.sort_by_key(|at| members[usize::from(*at)].number);
        Self { fields: fields.into(), by_name: by_name.into(), always, by_number: by_number.into() }
    }
}

fn flatten(ty: &'static Type, through: &[&'static str], into: &mut Vec<FlatField>) {
    for field in ty.members() {
        match &field.elem.shape {
            Shape::Struct(inner) if field.inline() => {
                let mut path = through.to_vec();
                path.push(inner.name);
                flatten(inner, &path, into);
            }
            _ => into.push(FlatField { field, through: through.to_vec() }),
        }
    }
}

impl Field {
    pub fn inline(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether Go writes the field even when its value is zero.
    pub fn always(&self) -> bool {
        !self.omitzero && (!self.omitempty || self.elem.value_struct())
    }
}

impl Elem {
    /// A Go struct held by value, whether Kubernetes shows it as an object or not: `omitempty` never omits it.
    pub fn value_struct(&self) -> bool {
        let is_struct = !matches!(
            self.shape,
            Shape::String
                | Shape::Bool
                | Shape::Int32
                | Shape::Int64
                | Shape::Uint8
                | Shape::Float64
                | Shape::Bytes
                | Shape::List(_)
                | Shape::Map(_)
        );
        is_struct && !self.pointer
    }

    /// How Go prints the type, pointers aside: `[]v1.Container`, `map[string]string`.
    pub fn go_name(&self) -> String {
        if !self.named.is_empty() {
            return self.named.to_owned();
        }
        let inner = |e: &Elem| if e.pointer { format!("*{}", e.go_name()) } else { e.go_name() };
        match &self.shape {
            Shape::Struct(ty) => ty.go_name(),
            Shape::List(item) => format!("[]{}", inner(item)),
            Shape::Map(value) => format!("map[string]{}", inner(value)),
            plain => plain.go_name().to_owned(),
        }
    }
}

impl Shape {
    fn go_name(&self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Float64 => "float64",
            Self::Bytes => "[]uint8",
            Self::Quantity => "resource.Quantity",
            Self::IntOrString => "intstr.IntOrString",
            Self::Time => "v1.Time",
            Self::MicroTime => "v1.MicroTime",
            Self::Duration => "v1.Duration",
            Self::Raw => "runtime.RawExtension",
            Self::Fields => "v1.FieldsV1",
            Self::Json => "v1.JSON",
            Self::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
            Self::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
            Self::SchemaOrStringArray => "v1.JSONSchemaPropsOrStringArray",
            Self::Struct(_) | Self::List(_) | Self::Map(_) => "",
        }
    }
}

#[cfg(test)]
mod tests;
