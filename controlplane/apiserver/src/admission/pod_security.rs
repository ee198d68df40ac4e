//! Pods do only what the standard allows that their namespace enforces; templates that would not are warned of
//! (`staging/src/k8s.io/pod-security-admission/admission`).
//!
//! Must not know: what the standards say.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_api::pod_security::{self as standards, Level, Policy, Standard};
use pintle_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::server::ApiServer;

/// How many of a namespace's pods are looked at when what it enforces changes, as upstream bounds it.
const MOST_PODS: usize = 3000;

pub fn validate(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    match (attributes.kind.group, attributes.kind.plural, attributes.subresource) {
        ("", "namespaces", "") => namespace(server, attributes, object),
        ("", "pods", "" | "ephemeralcontainers" | "resize") => pod(server, attributes, object),
        ("", "podtemplates" | "replicationcontrollers", "") | ("apps" | "batch", _, "") => {
            template(server, attributes, object)
        }
        _ => Ok(()),
    }
}

/// What the request's namespace asks for; `None` where it asks for nothing.
fn policy(server: &Arc<ApiServer>, attributes: &Attributes<'_>) -> Result<Option<Policy>, Status> {
    let namespace = server.cache_of("", "namespaces")?.get("", attributes.namespace);
    let Some(namespace) = namespace else { return Ok(None) };
    let (policy, errors) = Policy::of(|key| namespace.label(key));
    Ok(Some(policy).filter(|policy| !errors.is_empty() || !policy.is_privileged()))
}

fn pod(server: &Arc<ApiServer>, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if attributes.old.is_some_and(|old| !standards::is_significant(pod, old)) {
        return Ok(());
    }
    let Some(policy) = policy(server, attributes)? else { return Ok(()) };
    let found = standards::violations(policy.enforce, pod);
    if !found.is_empty() {
        let (standard, details) = (policy.enforce.to_string(), standards::details(&found));
        return Err(attributes.forbidden(&format!("violates PodSecurity {standard:?}: {details}")));
    }
    warn(attributes, policy.warn, pod);
    Ok(())
}

fn warn(attributes: &Attributes<'_>, standard: Standard, pod: &Value) {
    let found = standards::violations(standard, pod);
    if !found.is_empty() {
        let (standard, details) = (standard.to_string(), standards::details(&found));
        attributes.warnings.add(format!("would violate PodSecurity {standard:?}: {details}"));
    }
}

/// What makes pods is let in, with a warning: its pods may not be.
fn template(server: &Arc<ApiServer>, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let template = match attributes.kind.kind {
        "PodTemplate" => &object["template"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => &object["spec"]["template"],
    };
    if template["spec"].is_null() {
        return Ok(());
    }
    if let Some(policy) = policy(server, attributes)? {
        warn(attributes, policy.warn, template);
    }
    Ok(())
}

/// Labels that cannot be read are refused; pods that would not be let in any more are warned of.
fn namespace(server: &Arc<ApiServer>, attributes: &Attributes<'_>, namespace: &Value) -> Result<(), Status> {
    let (new, errors) = read(namespace);
    let (old, old_errors) = attributes.old.map(read).unzip();
    if !errors.is_empty() && old_errors.as_ref() != Some(&errors) {
        return Err(Status::invalid("Namespace", "", attributes.name, &errors));
    }
    let Some(old) = old.filter(|_| attributes.operation == Operation::Update) else { return Ok(()) };
    let stricter = new.enforce.version != old.enforce.version || new.enforce.level > old.enforce.level;
    if new.enforce != old.enforce && new.enforce.level != Level::Privileged && stricter {
        warn_of_pods(server, attributes, new.enforce)?;
    }
    Ok(())
}

fn read(namespace: &Value) -> (Policy, pintle_api::field::Errors) {
    let labels = &namespace["metadata"]["labels"];
    Policy::of(|key| labels[key].as_str())
}

/// One warning for each set of reasons, with the first pod's name and how many there are.
fn warn_of_pods(server: &Arc<ApiServer>, attributes: &Attributes<'_>, standard: Standard) -> Result<(), Status> {
    let pods = server.cache_of("", "pods")?.list(Some(attributes.name)).items;
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(MOST_PODS) {
        let violations = standards::violations(standard, &pod.value());
        if violations.is_empty() {
            continue;
        }
        let (first, count) = found.entry(standards::reasons(&violations)).or_insert((pod.name.to_string(), 0));
        *count += 1;
        if *pod.name < **first {
            *first = pod.name.to_string();
        }
    }
    let name = attributes.name;
    if pods.len() > MOST_PODS {
        let all = pods.len();
        let text =
            format!("new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods");
        attributes.warnings.add(text);
    }
    if !found.is_empty() {
        let standard = standard.to_string();
        attributes
            .warnings
            .add(format!("existing pods in namespace {name:?} violate the new PodSecurity enforce level {standard:?}"));
    }
    let mut lines: Vec<String> =
        found.into_iter().map(|(reasons, (first, count))| line(&first, count, &reasons)).collect();
    lines.sort();
    lines.into_iter().for_each(|line| attributes.warnings.add(line));
    Ok(())
}

fn line(first: &str, count: usize, reasons: &str) -> String {
    match count {
        1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        more => format!("{first} (and {} other pods): {reasons}", more - 1),
    }
}
