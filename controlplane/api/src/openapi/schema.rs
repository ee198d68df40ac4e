//! Definitions: a schema for each type that the paths reach.
//!
//! Must not know: paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Dialect, descriptions};
use crate::facts::{Elem, Field, FlatField, ListType, MapType, Shape, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// The definitions of `roots` and of all they refer to, by name.
pub(super) fn definitions(
    roots: &[&'static Type],
    dialect: Dialect,
    kinds: &dyn Fn(&Type) -> Vec<Value>,
) -> Map<String, Value> {
    let mut found = Definitions { dialect, list: BTreeMap::new(), open: roots.to_vec() };
    found.list.insert(format!("{META}.Patch"), json!({ "type": "object" }));
    while let Some(ty) = found.open.pop() {
        let name = ty.openapi_name();
        if !found.list.contains_key(&name) {
            let schema = found.of_type(ty, kinds);
            found.list.insert(name, schema);
        }
    }
    found.list.into_iter().collect()
}

/// A reference to a definition.
pub(super) fn reference(name: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
        Dialect::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

struct Definitions {
    dialect: Dialect,
    list: BTreeMap<String, Value>,
    open: Vec<&'static Type>,
}

impl Definitions {
    fn of_type(&mut self, ty: &'static Type, kinds: &dyn Fn(&Type) -> Vec<Value>) -> Value {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        if let Some(text) = descriptions::of_type(ty) {
            schema.insert("description".to_owned(), json!(text));
        }
        let properties: Map<String, Value> =
            ty.fields().iter().map(|flat| (flat.field.name.to_owned(), self.property(ty, flat))).collect();
        let required: Vec<&str> =
            ty.fields().iter().map(|flat| flat.field).filter(|f| f.required).map(|f| f.name).collect();
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        if ty.atomic {
            schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
        if ty.kind {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds(ty)));
        }
        Value::Object(schema)
    }

    fn property(&mut self, ty: &'static Type, flat: &FlatField) -> Value {
        let field = flat.field;
        let mut schema = self.of_elem(&field.elem);
        let mut beside = extensions(field);
        if let (Dialect::V3, Some(default)) = (self.dialect, default(field)) {
            beside.insert("default".to_owned(), default);
        }
        if let Some(text) = descriptions::of_field(ty, field.name) {
            beside.insert("description".to_owned(), json!(text));
        }
        // nothing may stand beside a reference in version 3
        if self.dialect == Dialect::V3 && schema.contains_key("$ref") && !beside.is_empty() {
            schema = Map::from_iter([("allOf".to_owned(), json!([schema]))]);
        }
        schema.extend(beside);
        Value::Object(schema)
    }

    fn of_elem(&mut self, elem: &'static Elem) -> Map<String, Value> {
        let schema = match &elem.shape {
            Shape::String => json!({ "type": "string" }),
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Int32 => json!({ "type": "integer", "format": "int32" }),
            Shape::Int64 => json!({ "type": "integer", "format": "int64" }),
            Shape::Uint8 => json!({ "type": "integer", "format": "byte" }),
            Shape::Float64 => json!({ "type": "number", "format": "double" }),
            Shape::Bytes => json!({ "type": "string", "format": "byte" }),
            Shape::List(item) => json!({ "type": "array", "items": self.of_elem(item) }),
            Shape::Map(value) => json!({ "type": "object", "additionalProperties": self.of_elem(value) }),
            Shape::Struct(ty) => {
                self.open.push(ty);
                reference(&ty.openapi_name(), self.dialect)
            }
            special => self.of_special(special),
        };
        if let Value::Object(map) = schema { map } else { Map::new() }
    }

    /// Types that write themselves.
    fn of_special(&mut self, shape: &Shape) -> Value {
        let date = json!({ "type": "string", "format": "date-time" });
        let (name, schema) = match shape {
            Shape::Quantity => ("io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(), self.either("number")),
            Shape::IntOrString => {
                let mut schema = self.either("integer");
                schema["format"] = json!("int-or-string");
                ("io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(), schema)
            }
            Shape::Time => (format!("{META}.Time"), date),
            Shape::MicroTime => (format!("{META}.MicroTime"), date),
            Shape::Duration => (format!("{META}.Duration"), json!({ "type": "string" })),
            Shape::Raw => ("io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(), json!({ "type": "object" })),
            Shape::Fields => (format!("{META}.FieldsV1"), json!({ "type": "object" })),
            Shape::SchemaOrArray => (format!("{EXTENSIONS}.JSONSchemaPropsOrArray"), json!({})),
            Shape::SchemaOrBool => (format!("{EXTENSIONS}.JSONSchemaPropsOrBool"), json!({})),
            Shape::SchemaOrStringArray => (format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray"), json!({})),
            _ => (format!("{EXTENSIONS}.JSON"), json!({})),
        };
        let reference = reference(&name, self.dialect);
        self.list.entry(name).or_insert(schema);
        reference
    }

    /// A string or something else, which version 2 cannot say.
    fn either(&self, other: &str) -> Value {
        match (self.dialect, other) {
            (Dialect::V2, _) => json!({ "type": "string" }),
            (Dialect::V3, "integer") => json!({ "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
            (Dialect::V3, other) => json!({ "oneOf": [{ "type": "string" }, { "type": other }] }),
        }
    }
}

fn extensions(field: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    let list_type = field.list_type.map(|kind| match kind {
        ListType::Atomic => "atomic",
        ListType::Set => "set",
        ListType::Map => "map",
    });
    let map_type = field.map_type.map(|kind| match kind {
        MapType::Atomic => "atomic",
        MapType::Granular => "granular",
    });
    let words = [
        ("x-kubernetes-list-type", list_type.unwrap_or("")),
        ("x-kubernetes-map-type", map_type.unwrap_or("")),
        ("x-kubernetes-patch-strategy", field.patch_strategy),
        ("x-kubernetes-patch-merge-key", field.patch_merge_key),
    ];
    for (name, word) in words.into_iter().filter(|(_, word)| !word.is_empty()) {
        out.insert(name.to_owned(), json!(word));
    }
    if !field.list_keys.is_empty() {
        out.insert("x-kubernetes-list-map-keys".to_owned(), json!(field.list_keys));
    }
    out
}

/// The static default, or Go's zero value where Go writes it.
fn default(field: &Field) -> Option<Value> {
    if let Some(text) = field.default {
        return serde_json::from_str(text).ok();
    }
    if field.elem.pointer {
        return None;
    }
    let written = !field.omitempty;
    match &field.elem.shape {
        Shape::Struct(ty) => {
            // a struct around another is as good as the other
            let only = ty.members();
            let wraps_scalar = only.len() == 1 && only[0].inline();
            (!wraps_scalar || matches!(only[0].elem.shape, Shape::Struct(_))).then(|| json!({}))
        }
        Shape::String if written => Some(json!("")),
        Shape::Bool if written => Some(json!(false)),
        Shape::Int32 | Shape::Int64 | Shape::Uint8 | Shape::Float64 if written => Some(json!(0)),
        _ => None,
    }
}
