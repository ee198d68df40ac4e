//! Admission policies: expressions that refuse what is written, or change it. A policy does something where a binding
//! names it. Sources: `admission/plugin/policy/{generic,validating,mutating}` of `k8s.io/apiserver`.
//!
//! Must not know: verbs.

mod expressions;
mod matching;

use std::sync::Arc;

use pintle_api::apply;
use pintle_api::object;
use pintle_api::patch;
use pintle_api::status::{Status, reason};
use serde_json::Value;

use super::Attributes;
use super::webhooks::{Shown, finish};
use crate::server::ApiServer;
pub use matching::{Binding, Policy};
use matching::{Matched, matched};

/// Has mutating policies change `object`.
pub fn mutate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if object.is_null() {
        return Ok(());
    }
    for found in matched(server, attributes, object, true)? {
        let kind = found.kind;
        for params in found.params(server, attributes)? {
            let shown = Shown::of(attributes, kind, object);
            let known = Known::new(server, attributes, &shown, &params);
            let changed = changed(&found, &known, &shown);
            match changed {
                Ok(None) => {}
                Ok(Some(new)) => *object = shown.back(attributes, new),
                Err(why) if found.fails_open() => tracing::debug!(policy = found.name(), why, "a policy failed"),
                Err(why) => {
                    return Err(attributes.forbidden(&format!("policy '{}' {}: {why}", found.name(), found.with())));
                }
            }
        }
    }
    Ok(())
}

/// The object after all mutations of one policy; none where its conditions do not hold.
fn changed(found: &Matched, known: &Known, shown: &Shown) -> Result<Option<Value>, String> {
    let expressions = found.policy.expressions.as_ref().map_err(Clone::clone)?;
    let kind = shown.kind;
    let ty = kind.custom.map(|it| it.ty).or_else(|| pintle_api::facts::type_of(kind.group, kind.version, kind.kind));
    let mut object = shown.object.clone();
    if !expressions.over(&known.over(&object)).conditions_hold()? {
        return Ok(None);
    }
    for (at, mutation) in found.spec()["mutations"].as_array().into_iter().flatten().enumerate() {
        let made = expressions.over(&known.over(&object)).mutation(at)?;
        object = if mutation["patchType"] == "JSONPatch" {
            patch::json(&object, &made).map_err(|error| error.message)?
        } else {
            let ty = ty.ok_or("objects of the kind cannot be merged")?;
            apply::merged(&object, &made, ty)?
        };
        finish(kind, &mut object)?;
    }
    Ok(Some(object))
}

/// Has validating policies refuse what is about to be written.
pub fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    for found in matched(server, attributes, object, false)? {
        let shown = Shown::of(attributes, found.kind, object);
        for params in found.params(server, attributes)? {
            let known = Known::new(server, attributes, &shown, &params);
            match objections(&found, &known, &shown) {
                Ok(all) => decide(attributes, &found, &all)?,
                Err(_) if found.fails_open() => {}
                Err(why) => return Err(refusal(attributes, &found, &Objection { why, reason: String::new() })),
            }
        }
    }
    Ok(())
}

/// What a policy has against a request.
struct Objection {
    why: String,
    /// Empty: `Invalid`.
    reason: String,
}

fn objections(found: &Matched, known: &Known, shown: &Shown) -> Result<Vec<Objection>, String> {
    let expressions = found.policy.expressions.as_ref().map_err(Clone::clone)?;
    let evaluation = expressions.over(&known.over(&shown.object));
    if !evaluation.conditions_hold()? {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for (at, validation) in found.spec()["validations"].as_array().into_iter().flatten().enumerate() {
        let text = validation["expression"].as_str().unwrap_or_default();
        let reason = validation["reason"].as_str().unwrap_or_default().to_owned();
        let why = match evaluation.holds(at) {
            Ok(true) => continue,
            Ok(false) => {
                let said = validation["message"].as_str().filter(|it| !it.is_empty()).map(str::to_owned);
                evaluation.message(at).or(said).unwrap_or_else(|| format!("failed expression: {}", text.trim()))
            }
            Err(_) if found.fails_open() => continue,
            Err(error) => format!("expression '{text}' resulted in error: {error}"),
        };
        all.push(Objection { why, reason });
    }
    Ok(all)
}

/// Does what the binding says with objections: refuse, warn, or nothing (there is no audit log).
fn decide(attributes: &Attributes<'_>, found: &Matched, all: &[Objection]) -> Result<(), Status> {
    if found.does("Warn") {
        for objection in all {
            let (policy, with) = (found.name(), found.with());
            let text = format!("Validation failed for ValidatingAdmissionPolicy '{policy}' {with}: {}", objection.why);
            attributes.warnings.add(text);
        }
    }
    match all.first().filter(|_| found.does("Deny")) {
        Some(first) => Err(refusal(attributes, found, first)),
        None => Ok(()),
    }
}

fn refusal(attributes: &Attributes<'_>, found: &Matched, objection: &Objection) -> Status {
    let (policy, with) = (found.name(), found.with());
    let why = format!("ValidatingAdmissionPolicy '{policy}' {with} denied request: {}", objection.why);
    let mut status = attributes.forbidden(&why);
    let (code, reason) = match reason(&objection.reason) {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    (status.code, status.reason) = (code, reason);
    status.details["causes"] = serde_json::json!([{ "message": why }]);
    status
}

/// What expressions may name, but for `object`, which mutations change on the way.
struct Known {
    old: Value,
    request: Value,
    params: Value,
    namespace: Value,
}

impl Known {
    fn new(server: &ApiServer, attributes: &Attributes<'_>, shown: &Shown, params: &Value) -> Self {
        let namespaces = server.cache_of("", "namespaces").ok();
        let namespace = namespaces.and_then(|it| it.get("", attributes.namespace)).map(|it| it.value());
        let mut namespace = namespace.filter(|_| !attributes.is("", "namespaces")).unwrap_or_default();
        if !namespace.is_null() {
            object::metadata_mut(&mut namespace).remove("managedFields");
        }
        let request = shown.question(attributes).request("");
        Self { old: shown.old.clone(), request, params: params.clone(), namespace }
    }

    fn over<'a>(&'a self, object: &'a Value) -> [(&'static str, &'a Value); 5] {
        [
            ("object", object),
            ("oldObject", &self.old),
            ("request", &self.request),
            ("params", &self.params),
            ("namespaceObject", &self.namespace),
        ]
    }
}
