//! The paths of a group and version, from the kind table.
//!
//! Must not know: how they are written.

use super::operations::{
    ACCEPTED, Answer, Body, CREATED, DELETE, LIST, OK, Operation, PATCH, PRETTY, Parameter, Path, UNAUTHORIZED, WRITE,
};
use crate::facts::{self, Shape, Type};
use crate::kinds::{Kind, Subresource};

const METHODS: [(&str, &str); 7] = [
    ("delete", "Delete"),
    ("get", "Get"),
    ("head", "Head"),
    ("options", "Options"),
    ("patch", "Patch"),
    ("post", "Post"),
    ("put", "Put"),
];

/// Every path below a group and version.
pub(super) fn all(group: &'static str, version: &'static str, kinds: &[&'static Kind]) -> Vec<Path> {
    let names = Names::of(group, version);
    let mut out: Vec<Path> = names.discovery().into_iter().collect();
    for kind in kinds {
        out.extend(OfKind { names: &names, kind }.paths());
    }
    out.iter_mut().for_each(lift_shared);
    out
}

/// What all operations of a path take is said once, of the path.
fn lift_shared(path: &mut Path) {
    let Some((first, rest)) = path.operations.split_first() else { return };
    let shared: Vec<Parameter> =
        first.parameters.iter().filter(|p| rest.iter().all(|o| o.parameters.contains(p))).copied().collect();
    for operation in &mut path.operations {
        operation.parameters.retain(|parameter| !shared.contains(parameter));
    }
    path.parameters.extend(shared);
}

/// The types that operations take and answer.
pub(super) fn types(paths: &[Path]) -> Vec<&'static Type> {
    let mut out = Vec::new();
    for operation in paths.iter().flat_map(|path| &path.operations) {
        if let Body::Object(ty) | Body::Options(ty) = operation.body {
            out.push(ty);
        }
        if let Answer::Object(ty) | Answer::Stream(ty) = operation.answer {
            out.push(ty);
        }
    }
    out
}

/// How a group and version is named in paths and operations.
struct Names {
    /// `/apis/apps/v1`.
    root: String,
    /// `AppsV1`.
    camel: String,
    /// `apps_v1`.
    tag: String,
}

impl Names {
    fn of(group: &str, version: &str) -> Self {
        let short = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
        let camel: String = short.split('.').map(capital).collect();
        let mut tag = camel.clone();
        if let Some(first) = tag.get_mut(0..1) {
            first.make_ascii_lowercase();
        }
        Self {
            root: format!("/{}", super::root(group, version)),
            camel: format!("{camel}{}", capital(version)),
            tag: format!("{tag}_{version}"),
        }
    }

    fn discovery(&self) -> Option<Path> {
        let operation = Operation {
            method: "get",
            id: format!("get{}APIResources", self.camel),
            tag: self.tag.clone(),
            action: "",
            parameters: Vec::new(),
            body: Body::None,
            answer: Answer::Object(shared("APIResourceList")?),
            codes: &[OK, UNAUTHORIZED],
            about: None,
        };
        let path = format!("{}/", self.root);
        Some(Path { path, places: Vec::new(), parameters: Vec::new(), operations: vec![operation] })
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

fn shared(kind: &str) -> Option<&'static Type> {
    facts::type_of("", "v1", kind)
}

struct OfKind<'a> {
    names: &'a Names,
    kind: &'static Kind,
}

impl OfKind<'_> {
    fn paths(&self) -> Vec<Path> {
        let kind = self.kind;
        let Some(ty) = facts::type_of(kind.group, kind.version, kind.kind) else { return Vec::new() };
        let list = facts::type_of(kind.group, kind.version, &format!("{}List", kind.kind));
        let mut out = vec![self.collection(ty, list), self.item(ty)];
        if let (true, Some(list), true) = (kind.namespaced, list, self.can("list")) {
            out.push(self.everywhere(list));
        }
        out.extend(kind.subresources.iter().flat_map(|sub| self.subresource(sub)));
        if self.can("watch") {
            out.extend(self.watches());
        }
        out.retain(|path| !path.operations.is_empty());
        out
    }

    fn can(&self, verb: &str) -> bool {
        self.kind.verbs.contains(&verb)
    }

    /// `Namespaced` and the kind, as operation names have it.
    fn scoped(&self) -> String {
        format!("{}{}", if self.kind.namespaced { "Namespaced" } else { "" }, self.kind.kind)
    }

    fn base(&self) -> String {
        let namespace = if self.kind.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{namespace}/{}", self.names.root, self.kind.plural)
    }

    fn places(&self, item: bool) -> Vec<&'static str> {
        let mut places = Vec::new();
        places.extend(item.then_some("name"));
        places.extend(self.kind.namespaced.then_some("namespace"));
        places
    }

    fn operation(
        &self,
        method: &'static str,
        verb: &str,
        what: &str,
        action: &'static str,
        ty: &'static Type,
    ) -> Operation {
        Operation {
            method,
            id: format!("{verb}{}{what}", self.names.camel),
            tag: self.names.tag.clone(),
            action,
            parameters: Vec::new(),
            body: Body::None,
            answer: Answer::Object(ty),
            codes: &[OK, UNAUTHORIZED],
            about: Some((self.kind.group, self.kind.version, self.kind.kind)),
        }
    }

    fn list(&self, what: &str, list: &'static Type) -> Operation {
        let operation = self.operation("get", "list", what, "list", list);
        Operation { parameters: LIST.to_vec(), answer: Answer::Stream(list), ..operation }
    }

    fn create(&self, what: &str, ty: &'static Type) -> Operation {
        let operation = self.operation("post", "create", what, "post", ty);
        let codes = &[OK, CREATED, ACCEPTED, UNAUTHORIZED];
        Operation { parameters: WRITE.to_vec(), body: Body::Object(ty), codes, ..operation }
    }

    fn collection(&self, ty: &'static Type, list: Option<&'static Type>) -> Path {
        let what = self.scoped();
        let mut operations = Vec::new();
        if let (true, Some(list)) = (self.can("list"), list) {
            operations.push(self.list(&what, list));
        }
        if self.can("create") {
            operations.push(self.create(&what, ty));
        }
        if let (true, Some(status), Some(options)) =
            (self.can("deletecollection"), shared("Status"), shared("DeleteOptions"))
        {
            let verb = format!("Collection{what}");
            let operation = self.operation("delete", "delete", &verb, "deletecollection", status);
            let watches = ["allowWatchBookmarks", "watch"];
            let mut parameters: Vec<Parameter> =
                LIST.iter().filter(|(name, _)| !watches.contains(name)).copied().collect();
            parameters.extend(DELETE);
            operations.push(Operation { parameters, body: Body::Options(options), ..operation });
        }
        Path { path: self.base(), places: self.places(false), parameters: vec![PRETTY], operations }
    }

    fn everywhere(&self, list: &'static Type) -> Path {
        let operation = self.list(&format!("{}ForAllNamespaces", self.kind.kind), list);
        let path = format!("{}/{}", self.names.root, self.kind.plural);
        Path { path, places: Vec::new(), parameters: vec![PRETTY], operations: vec![operation] }
    }

    /// Read, replace and patch, as an item or a subresource offers them.
    fn reads_and_writes(&self, what: &str, ty: &'static Type, verbs: &[&str]) -> Vec<Operation> {
        let codes = &[OK, CREATED, UNAUTHORIZED];
        let mut out = Vec::new();
        if verbs.contains(&"get") {
            out.push(self.operation("get", "read", what, "get", ty));
        }
        if verbs.contains(&"update") {
            let operation = self.operation("put", "replace", what, "put", ty);
            out.push(Operation { parameters: WRITE.to_vec(), body: Body::Object(ty), codes, ..operation });
        }
        if verbs.contains(&"patch") {
            let operation = self.operation("patch", "patch", what, "patch", ty);
            out.push(Operation { parameters: PATCH.to_vec(), body: Body::Patch, codes, ..operation });
        }
        if verbs.contains(&"create") {
            out.push(self.create(what, ty));
        }
        out
    }

    fn item(&self, ty: &'static Type) -> Path {
        let what = self.scoped();
        let verbs: Vec<&str> = self.kind.verbs.iter().copied().filter(|verb| *verb != "create").collect();
        let mut operations = self.reads_and_writes(&what, ty, &verbs);
        if let (true, Some(status), Some(options)) = (self.can("delete"), shared("Status"), shared("DeleteOptions")) {
            // a few kinds answer with the object itself
            let itself = [
                "Pod",
                "PersistentVolume",
                "PersistentVolumeClaim",
                "PodTemplate",
                "ResourceQuota",
                "Service",
                "ServiceAccount",
                "CSIDriver",
                "CSINode",
                "StorageClass",
                "VolumeAttachment",
                "ResourceClaim",
                "ResourceClaimTemplate",
                "DeviceClass",
                "ResourceSlice",
                "VolumeAttributesClass",
            ];
            let answer = if itself.contains(&self.kind.kind) { ty } else { status };
            let operation = self.operation("delete", "delete", &what, "delete", answer);
            let codes = &[OK, ACCEPTED, UNAUTHORIZED];
            operations.push(Operation {
                parameters: DELETE.to_vec(),
                body: Body::Options(options),
                codes,
                ..operation
            });
        }
        let path = format!("{}/{{name}}", self.base());
        Path { path, places: self.places(true), parameters: vec![PRETTY], operations }
    }

    fn subresource(&self, sub: &'static Subresource) -> Vec<Path> {
        let Some(ty) = facts::type_of(sub.group, sub.version, sub.kind) else { return Vec::new() };
        let what = format!("{}{}", self.scoped(), capital(sub.name));
        let path = format!("{}/{{name}}/{}", self.base(), sub.name);
        let about = Some((sub.group, sub.version, sub.kind));
        if sub.kind.ends_with("Options") {
            return self.connections(sub, ty, &what, &path);
        }
        let mut operations = self.reads_and_writes(&what, ty, sub.verbs);
        for operation in &mut operations {
            operation.about = about;
        }
        let mut parameters = vec![PRETTY];
        if let ("log", Some(operation)) = (sub.name, operations.first_mut()) {
            operation.answer = Answer::Text;
            parameters.extend(shared("PodLogOptions").map(option_parameters).unwrap_or_default());
        }
        vec![Path { path, places: self.places(true), parameters, operations }]
    }

    /// Subresources that connect to something: their options are query parameters.
    fn connections(&self, sub: &'static Subresource, ty: &'static Type, what: &str, path: &str) -> Vec<Path> {
        let proxy = sub.name == "proxy";
        let methods = METHODS.iter().filter(|(method, _)| proxy || ["get", "post"].contains(method));
        let operations = |suffix: &str| -> Vec<Operation> {
            let of = |(method, name): &(&'static str, &str)| Operation {
                answer: Answer::Text,
                about: Some((sub.group, sub.version, sub.kind)),
                id: format!("connect{}{name}{what}{suffix}", self.names.camel),
                ..self.operation(method, "", "", "connect", ty)
            };
            methods.clone().map(of).collect()
        };
        let parameters = option_parameters(ty);
        let mut out = vec![Path {
            path: path.to_owned(),
            places: self.places(true),
            parameters: parameters.clone(),
            operations: operations(""),
        }];
        if proxy {
            let mut places = self.places(true);
            places.push("path");
            let path = format!("{path}/{{path}}");
            out.push(Path { path, places, parameters, operations: operations("WithPath") });
        }
        out
    }

    /// The old form of watches, each a path of its own.
    fn watches(&self) -> Vec<Path> {
        let Some(event) = shared("WatchEvent") else { return Vec::new() };
        let kind = self.kind;
        let mut parameters = LIST.to_vec();
        parameters.push(PRETTY);
        let watch = |path: String, what: String, action, places: Vec<&'static str>| {
            let operation =
                Operation { answer: Answer::Stream(event), ..self.operation("get", "watch", &what, action, event) };
            Path { path, places, parameters: parameters.clone(), operations: vec![operation] }
        };
        let below = self.base().replacen(&self.names.root, &format!("{}/watch", self.names.root), 1);
        let mut out = vec![
            watch(format!("{below}/{{name}}"), self.scoped(), "watch", self.places(true)),
            watch(below, format!("{}List", self.scoped()), "watchlist", self.places(false)),
        ];
        if kind.namespaced {
            let path = format!("{}/watch/{}", self.names.root, kind.plural);
            out.push(watch(path, format!("{}ListForAllNamespaces", kind.kind), "watchlist", Vec::new()));
        }
        out
    }
}

/// The fields of an options kind as query parameters.
fn option_parameters(ty: &'static Type) -> Vec<Parameter> {
    let fields =
        ty.fields().iter().map(|flat| flat.field).filter(|field| !["kind", "apiVersion"].contains(&field.name));
    let kind_of = |shape: &Shape| match shape {
        Shape::Bool => "boolean",
        Shape::Int32 | Shape::Int64 => "integer",
        _ => "string",
    };
    // a time is no query parameter
    let fields = fields.filter(|field| !matches!(field.elem.shape, Shape::Time));
    fields
        .map(|field| match &field.elem.shape {
            // lists are given by repeating the parameter
            Shape::List(item) => {
                (field.name, if ty.name == "PodPortForwardOptions" { "integer" } else { kind_of(&item.shape) })
            }
            shape => (field.name, kind_of(shape)),
        })
        .collect()
}
