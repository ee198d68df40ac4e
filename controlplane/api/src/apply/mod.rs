//! Server-side apply, and the bookkeeping of `metadata.managedFields` for every write.
//!
//! The semantics are those of `structured-merge-diff` and of `apimachinery/pkg/util/managedfields`; an object is expected
//! in canonical form, an applied configuration as its client wrote it.
//!
//! Must not know: requests, defaults, which fields a strategy resets (its caller says).

mod compare;
mod managers;
mod merge;
mod schema;
mod set;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::canonical;
use crate::facts::Type;
use crate::status::Status;
use compare::{Comparison, compare, field_set};
use managers::{Id, Managed, Managers};
use schema::Kind;
use set::Set;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `live` with what `config` says of it, whoever manages it.
///
/// # Errors
/// An item of a list that cannot be told from others, or is there twice.
pub fn merged(live: &Value, config: &Value, ty: &'static Type) -> Result<Value, String> {
    merge::merge(live, config, ty)
}

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// `fieldManager`, or what stands for it (the beginning of the user agent); empty becomes `unknown`.
    pub manager: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// The present time as JSON has it: `2006-01-02T15:04:05Z`.
    pub now: &'a str,
    /// Fields that this write cannot change and so does not come to own, as paths of field names: usually `status`
    /// through the main resource, `spec` through `status` (upstream's `GetResetFields`).
    pub reset: &'a [&'a [&'a str]],
}

impl Writer<'_> {
    fn reset(&self) -> Set {
        paths(self.reset)
    }
}

fn paths(list: &[&[&str]]) -> Set {
    let mut set = Set::default();
    for path in list {
        let path: Vec<String> = path.iter().map(|name| set::field(name)).collect();
        set.insert(&path);
    }
    set
}

/// What no manager ever owns.
static NEVER_OWNED: LazyLock<Set> = LazyLock::new(|| {
    const META: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = paths(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for name in META {
        set.insert(&[set::field("metadata"), set::field(name)]);
    }
    set
});

fn api_version(ty: &Type) -> String {
    match ty.package.group {
        "" => ty.package.version.to_owned(),
        group => format!("{group}/{}", ty.package.version),
    }
}

/// What comes out of an object that has nothing in it yet.
fn nothing(ty: &'static Type) -> Value {
    let mut object = Value::Object(Map::new());
    // an empty object fits every type
    let _ = canonical::canonicalize(&mut object, ty);
    object
}

/// Sets `new`'s `managedFields` after a create (`old` is None), an update or a patch other than apply.
///
/// Both objects are canonical and as they will be stored. What `new` says of `managedFields` counts as upstream has it:
/// through a subresource not at all, an entry without content resets, none at all keeps `old`'s.
pub fn after_update(old: Option<&Value>, new: &mut Value, ty: &'static Type, writer: &Writer<'_>) {
    let mut managers = managers_of_update(old, new, writer);
    crate::object::metadata_mut(new).remove("managedFields");
    if managers.is_empty() && old.is_some() {
        return;
    }
    let blank;
    let old = match old {
        Some(old) => old,
        None => {
            blank = nothing(ty);
            &blank
        }
    };
    update(old, new, ty, &mut managers, writer);
    managers::cap(&mut managers);
    managers::encode(new, &managers);
}

fn managers_of_update(old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Managers {
    let of_old = || old.and_then(managers::decode).unwrap_or_default();
    if !writer.subresource.is_empty() {
        return of_old();
    }
    let given = &new["metadata"]["managedFields"];
    let reset = given.as_array().is_some_and(|list| {
        list.is_empty() || (list.len() == 1 && list[0].as_object().is_some_and(|e| e.values().all(blank)))
    });
    if reset {
        return Managers::new();
    }
    match managers::decode(new) {
        Some(managers) if !managers.is_empty() => managers,
        _ => of_old(),
    }
}

fn blank(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Gives what changed to the writer and takes it from all others.
fn update(old: &Value, new: &Value, ty: &'static Type, managers: &mut Managers, writer: &Writer<'_>) {
    let reset = writer.reset();
    let comparison = compare(old, new, ty).without(&reset);
    take_from_others(managers, None, &comparison);
    let mut own = comparison.into_changed();
    own.remove(&NEVER_OWNED);
    if own.is_empty() {
        return;
    }
    let version = api_version(ty);
    let id = Id::new(writer.manager, false, &version, writer.subresource);
    let entry = managers.entry(id).or_insert_with(|| Managed {
        api_version: version,
        set: Set::default(),
        time: String::new(),
    });
    entry.set.absorb(own);
    writer.now.clone_into(&mut entry.time);
}

fn take_from_others(managers: &mut Managers, writer: Option<&Id>, comparison: &Comparison) {
    for (_, managed) in managers.iter_mut().filter(|(id, _)| Some(*id) != writer) {
        managed.set.remove(&comparison.modified);
        managed.set.remove(&comparison.added);
        managed.set.remove(&comparison.removed);
    }
    managers.retain(|_, managed| !managed.set.is_empty());
}

/// Server-side apply: `live` (None: it does not exist) with what `config` says, without what the manager applied before
/// and says no more; with its `managedFields`. The result still wants canonical form and defaults.
///
/// # Errors
/// 400 for a configuration that says another version or `managedFields`, 409 with upstream's words for fields that
/// others manage with other values unless `force`, 500 with upstream's words for what does not fit the schema.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    ty: &'static Type,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    check_config(config, ty)?;
    let mut live = live.cloned().unwrap_or_else(|| nothing(ty));
    let managers =
        managers::decode(&live).ok_or_else(|| Status::new(500, "InternalError", "failed to decode managed fields"))?;
    crate::object::metadata_mut(&mut live).remove("managedFields");
    let run = |force| apply_to(&live, config, ty, managers.clone(), writer, force);
    match run(force) {
        Err(conflict) if writer.manager == "kubectl" && conflict.code == 409 => {
            // fields that kubectl owns through its annotation are its own
            if all_last_applied(&live, &conflict, ty) { run(true) } else { Err(conflict) }
        }
        result => result,
    }
}

fn check_config(config: &Value, ty: &'static Type) -> Result<(), Status> {
    let (given, expected) = (config["apiVersion"].as_str().unwrap_or_default(), api_version(ty));
    if given != expected {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {given}, expected: {expected}"
        )));
    }
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    validate::validate(config, ty).map_err(|why| untyped(config, ty, &why))
}

/// The refusal of a configuration that does not fit its schema.
fn untyped(config: &Value, ty: &Type, why: &str) -> Status {
    let (name, namespace, version) = (crate::object::name(config), crate::object::namespace(config), api_version(ty));
    let kind = ty.name;
    let message = format!("failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {why}");
    Status::new(500, "InternalError", message)
}

/// Refuses a configuration that has fields, by their paths, which its schema does not declare. The schemas of custom
/// resources are not the types that are known here.
///
/// # Errors
/// As upstream's field manager words it.
pub fn refuse_undeclared(config: &Value, ty: &Type, fields: &[String]) -> Result<(), Status> {
    let said = |path: &String| format!(".{path}: field not declared in schema");
    match fields {
        [] => Ok(()),
        [one] => Err(untyped(config, ty, &said(one))),
        many => {
            let lines: String = many.iter().map(|path| format!("\n  {}", said(path))).collect();
            Err(untyped(config, ty, &format!("errors:{lines}")))
        }
    }
}

fn apply_to(
    live: &Value,
    config: &Value,
    ty: &'static Type,
    mut managers: Managers,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    if managers.is_empty() {
        let before = Writer { manager: "before-first-apply", ..*writer };
        update(&nothing(ty), live, ty, &mut managers, &before);
    }
    let id = Id::new(writer.manager, true, "", writer.subresource);
    let reset = writer.reset();
    let last = managers.get(&id).cloned();
    let merged = merge::merge(live, config, ty)
        .map_err(|why| Status::new(500, "InternalError", format!("failed to merge config: {why}")))?;
    let set = field_set(config, ty).recursive_difference(&reset);
    let time = last.as_ref().map(|managed| managed.time.clone()).unwrap_or_default();
    managers.insert(id.clone(), Managed { api_version: api_version(ty), set, time });
    let mut object = match &last {
        Some(last) if !last.set.is_empty() => prune(&merged, &last.set, &managers, ty),
        _ => merged,
    };
    let comparison = compare(live, &object, ty).without(&reset);
    refuse_conflicts(&managers, &id, &comparison, force)?;
    take_from_others(&mut managers, Some(&id), &comparison);
    if let Some(own) = managers.get_mut(&id) {
        own.set = own.set.difference(&NEVER_OWNED);
        if object != *live {
            writer.now.clone_into(&mut own.time);
        }
    }
    managers.retain(|_, managed| !managed.set.is_empty());
    if writer.manager == "kubectl" {
        renew_last_applied(&mut object, config);
    }
    managers::encode(&mut object, &managers);
    Ok(object)
}

fn refuse_conflicts(managers: &Managers, own: &Id, comparison: &Comparison, force: bool) -> Result<(), Status> {
    let changed = comparison.changed();
    let conflicts: Vec<(&Id, Set)> = managers
        .iter()
        .filter(|(id, _)| *id != own)
        .map(|(id, managed)| (id, managed.set.intersection(&changed)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    if force || conflicts.is_empty() { Ok(()) } else { Err(managers::conflict(&conflicts)) }
}

/// Takes out what the manager applied last time and no one says any more.
fn prune(merged: &Value, last: &Set, managers: &Managers, ty: &'static Type) -> Value {
    let named = |set: &Set| merge::with_named_fields(set, Kind::Struct(ty));
    let last = named(last);
    let pruned = merge::remove(merged, &last, ty);
    let owned = managers.values().fold(Set::default(), |all, managed| all.union(&managed.set));
    let all = named(&field_set(merged, ty));
    // back comes what somebody owns
    let kept = named(&field_set(&pruned, ty)).union(&named(&owned));
    let pruned = merge::remove(merged, &all.difference(&kept), ty);
    // and what the manager never owned
    let gone = all.difference(&named(&field_set(&pruned, ty))).intersection(&last);
    merge::remove(merged, &gone, ty)
}

/// Whether every conflicting field still has the value of kubectl's client-side annotation.
fn all_last_applied(live: &Value, conflict: &Status, ty: &'static Type) -> bool {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let Ok(applied) = serde_json::from_str::<Value>(text) else { return false };
    if applied["apiVersion"].as_str() != Some(&api_version(ty)) {
        return false;
    }
    let comparison = compare(&applied, live, ty);
    let allowed = field_set(&applied, ty).difference(&comparison.changed()).difference(&comparison.removed);
    let allowed: Vec<String> = allowed.paths().iter().map(|path| set::shown(path)).collect();
    let causes = conflict.details["causes"].as_array();
    causes.is_some_and(|causes| {
        causes.iter().all(|cause| allowed.iter().any(|path| cause["field"].as_str() == Some(path)))
    })
}

/// Keeps kubectl's client-side annotation, where there is one, equal to what it applied.
fn renew_last_applied(object: &mut Value, config: &Value) {
    let present = &object["metadata"]["annotations"][LAST_APPLIED];
    if present.as_str().is_none_or(str::is_empty) {
        return;
    }
    let mut applied = config.clone();
    if let Some(map) = applied["metadata"]["annotations"].as_object_mut() {
        map.remove(LAST_APPLIED);
    }
    object["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{applied}\n"));
}
