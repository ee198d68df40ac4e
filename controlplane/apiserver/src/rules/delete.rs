//! What deleting an object amounts to: gone at once, marked and waited for, or nothing new
//! (`k8s.io/apiserver/pkg/registry/rest/delete.go`, `registry/generic/registry/store.go`).
//!
//! Must not know: stores, requests, clocks.

use jiff::{Timestamp, ToSpan as _};
use pintle_api::kinds::Kind;
use pintle_api::object::{self, metadata_mut};
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::traits::{self, Collection};
use super::write::is_namespace;
use crate::request::DeleteOptions;

#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Out of the store.
    Now,
    /// Marked first, so that watchers see it going, then out of the store.
    MarkThenNow(Value),
    /// Marked; somebody else finishes it.
    Mark(Value),
    /// It is going already, and this request changes nothing.
    Already,
}

/// RFC 3339 in whole seconds, as `metav1.Time` is written.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn plan(object: &Value, kind: &Kind, options: &DeleteOptions, now: Timestamp) -> Result<Plan, Status> {
    check_preconditions(object, kind, options)?;
    let mut marked = object.clone();
    let graceful = match grace(&mut marked, kind, options, now) {
        Grace::Pending => return Ok(Plan::Already),
        Grace::None => None,
        Grace::Period(seconds) => Some(seconds),
    };
    set_finalizers(&mut marked, kind, options);
    let waits = |list: &Value| list.as_array().is_some_and(|l| !l.is_empty());
    let pending =
        waits(&marked["metadata"]["finalizers"]) || (is_namespace(kind) && waits(&marked["spec"]["finalizers"]));
    Ok(match (graceful, pending) {
        (None, false) => Plan::Now,
        (None, true) => {
            mark(&mut marked, now);
            unless_same(marked, object, kind)
        }
        // whoever watches has seen it going
        (Some(0), false) if !object["metadata"]["deletionTimestamp"].is_null() => Plan::Now,
        (Some(0), false) => Plan::MarkThenNow(marked),
        (Some(_), _) => unless_same(marked, object, kind),
    })
}

fn unless_same(mut marked: Value, object: &Value, kind: &Kind) -> Plan {
    if is_namespace(kind) {
        marked["status"]["phase"] = "Terminating".into();
    }
    if marked == *object { Plan::Already } else { Plan::Mark(marked) }
}

fn check_preconditions(object: &Value, kind: &Kind, options: &DeleteOptions) -> Result<(), Status> {
    let refuse = |what: &str, asked: &str, found: &str, might: &str| {
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). The object might \
             have been {might}"
        );
        Err(Status::conflict(kind.kind, kind.group, object::name(object), &why))
    };
    match (&options.uid, &options.resource_version) {
        (Some(uid), _) if uid != object::uid(object) => {
            refuse("UID", uid, object::uid(object), "deleted and then recreated")
        }
        (_, Some(version)) if version != object::meta(object, "resourceVersion") => {
            refuse("ResourceVersion", version, object::meta(object, "resourceVersion"), "modified")
        }
        _ => Ok(()),
    }
}

enum Grace {
    /// The kind knows no grace, or the object's is over.
    None,
    Pending,
    Period(i64),
}

/// Only pods have a grace period. Sets the deletion's time in `object`.
fn grace(object: &mut Value, kind: &Kind, options: &DeleteOptions, now: Timestamp) -> Grace {
    if !(kind.group.is_empty() && kind.plural == "pods") {
        return Grace::None;
    }
    let asked = options.grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return shorten(object, asked, now);
    }
    let mut period = asked.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
    let unscheduled = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    if unscheduled || matches!(object["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        period = 0;
    }
    let period = if period < 0 { 1 } else { period };
    set_deletion(object, after(now, period), period);
    count(object);
    Grace::Period(period)
}

/// A running grace period can only become shorter.
fn shorten(object: &mut Value, asked: Option<i64>, now: Timestamp) -> Grace {
    let running = object["metadata"]["deletionGracePeriodSeconds"].as_i64().map_or(0, |s| if s < 0 { 1 } else { s });
    if running == 0 {
        return Grace::None;
    }
    let Some(mut period) = asked.filter(|asked| *asked < running) else { return Grace::Pending };
    let ends: Timestamp = object::meta(object, "deletionTimestamp").parse().unwrap_or(now);
    let mut new_end = after(ends, period - running);
    if new_end < now {
        new_end = now;
        period = period.min(1);
    }
    set_deletion(object, new_end, period);
    Grace::Period(period)
}

fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(seconds.clamp(-100_000_000, 100_000_000).seconds()).unwrap_or(at)
}

fn set_deletion(object: &mut Value, at: Timestamp, period: i64) {
    let meta = metadata_mut(object);
    meta.insert("deletionTimestamp".to_owned(), rfc3339(at).into());
    meta.insert("deletionGracePeriodSeconds".to_owned(), period.into());
}

fn count(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        metadata_mut(object).insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Going, with no grace left: its finalizers are what it waits for.
fn mark(object: &mut Value, now: Timestamp) {
    let set: Option<Timestamp> = object::meta(object, "deletionTimestamp").parse().ok();
    if set.is_none() {
        count(object);
    }
    if set.is_none_or(|at| at > now) {
        metadata_mut(object).insert("deletionTimestamp".to_owned(), rfc3339(now).into());
    }
    // namespaces carry none, as upstream's own deletion of them sets none
    let is_namespace = object["kind"] == "Namespace" && object["apiVersion"] == "v1";
    if !is_namespace {
        metadata_mut(object).insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    }
}

/// Leaves the garbage collector its order: orphan the dependents, or delete them first.
fn set_finalizers(object: &mut Value, kind: &Kind, options: &DeleteOptions) {
    let current: Vec<String> = object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect();
    let own = |f: &&String| matches!(f.as_str(), "orphan" | "foregroundDeletion");
    let mut wanted: Vec<String> = current.iter().filter(|f| !own(f)).cloned().collect();
    if let Some(order) = order(&current, kind, options) {
        wanted.push(order.to_owned());
    }
    if wanted.is_empty() {
        metadata_mut(object).remove("finalizers");
    } else {
        metadata_mut(object).insert("finalizers".to_owned(), json!(wanted));
    }
}

fn order(current: &[String], kind: &Kind, options: &DeleteOptions) -> Option<&'static str> {
    let default = traits::collection(kind);
    if default == Collection::Unsupported {
        return None;
    }
    match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(true), _) | (None, Some("Orphan")) => return Some("orphan"),
        (None, Some("Foreground")) => return Some("foregroundDeletion"),
        (Some(false), _) | (None, Some(_)) => return None,
        (None, None) => {}
    }
    let set = current.iter().find_map(|f| match f.as_str() {
        "orphan" => Some("orphan"),
        "foregroundDeletion" => Some("foregroundDeletion"),
        _ => None,
    });
    set.or((default == Collection::Orphan).then_some("orphan"))
}

#[cfg(test)]
mod tests {
    use pintle_api::kinds::find;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(node: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u", "generation": 1},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}
        })
    }

    fn decide(object: &Value, plural: &str, options: &DeleteOptions) -> Plan {
        plan(object, find("", "v1", plural).unwrap(), options, now()).unwrap()
    }

    #[test]
    fn a_running_pod_is_given_its_grace() {
        let Plan::Mark(marked) = decide(&pod("n"), "pods", &DeleteOptions::default()) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(marked["metadata"]["generation"], 2);
        assert_eq!(decide(&marked, "pods", &DeleteOptions::default()), Plan::Already);
        let zero = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
        assert_eq!(decide(&marked, "pods", &zero), Plan::Now);
    }

    #[test]
    fn an_unscheduled_pod_goes_at_once() {
        assert!(matches!(decide(&pod(""), "pods", &DeleteOptions::default()), Plan::MarkThenNow(_)));
    }

    #[test]
    fn finalizers_are_waited_for() {
        let object = json!({"metadata": {"name": "c", "finalizers": ["a/b"]}});
        let Plan::Mark(marked) = decide(&object, "configmaps", &DeleteOptions::default()) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(decide(&marked, "configmaps", &DeleteOptions::default()), Plan::Already);
    }

    #[test]
    fn a_policy_becomes_the_garbage_collectors_order() {
        let object = json!({"metadata": {"name": "c"}});
        let foreground = DeleteOptions { propagation_policy: Some("Foreground".to_owned()), ..Default::default() };
        let Plan::Mark(marked) = decide(&object, "configmaps", &foreground) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        assert_eq!(decide(&object, "configmaps", &DeleteOptions::default()), Plan::Now);
    }

    #[test]
    fn another_uid_is_a_conflict() {
        let options = DeleteOptions { uid: Some("other".to_owned()), ..Default::default() };
        let error = plan(&pod("n"), find("", "v1", "pods").unwrap(), &options, now()).unwrap_err();
        assert!(error.message.contains("the UID in the precondition (other) does not match the UID in record (u)"));
    }
}
