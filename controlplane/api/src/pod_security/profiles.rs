//! The checks of what confines a container: AppArmor, seccomp, SELinux.
//!
//! Must not know: other checks.

use serde_json::Value;

use super::Violation;
use super::checks::violation;
use super::subject::{Subject, Words, containers, each_pair, name, plural, quoted, setters};

/// The pod's and the containers' settings of a profile that `bad` is true of: who, and what they set.
fn setting<'a>(
    subject: &Subject<'a>,
    of: impl Fn(&'a Value) -> Option<&'a str>,
    bad: impl Fn(&str) -> bool,
) -> (bool, Vec<&'a str>, Words) {
    let is_bad = |holder: &'a Value| of(holder).is_some_and(&bad);
    let holders = subject.containers().chain([subject.spec]);
    let values = holders.filter_map(&of).filter(|value| bad(value)).map(str::to_owned).collect();
    (is_bad(subject.spec), subject.those(is_bad), values)
}

pub fn app_armor(subject: &Subject<'_>) -> Option<Violation> {
    let allowed = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let of = |holder: &'_ Value| -> Option<String> {
        let profile = &holder["securityContext"]["appArmorProfile"];
        (!profile.is_null()).then(|| profile["type"].as_str().unwrap_or_default().to_owned())
    };
    let bad = |holder: &Value| of(holder).is_some_and(|kind| !allowed(&kind));
    let names = subject.those(bad);
    let holders = subject.containers().chain([subject.spec]);
    let values: Words = holders.filter_map(of).filter(|kind| !allowed(kind)).collect();
    let annotations = each_pair(subject.annotations).filter(|(key, value)| {
        let fine = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
        key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !fine
    });
    let annotations: Words = annotations.map(|(key, value)| format!("{key}={value:?}")).collect();
    let noun = plural("annotation", "annotations", annotations.len());
    let noun = (!annotations.is_empty()).then(|| noun.to_owned());
    let who: Vec<String> = setters(bad(subject.spec), &names).into_iter().chain(noun).collect();
    if who.is_empty() {
        return None;
    }
    let all: Vec<&String> = values.iter().chain(&annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len());
    violation(reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(all)))
}

fn seccomp(holder: &Value) -> Option<&str> {
    let profile = &holder["securityContext"]["seccompProfile"];
    (!profile.is_null()).then(|| profile["type"].as_str().unwrap_or_default())
}

fn is_confined(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// Who turns seccomp off.
fn unconfined(subject: &Subject<'_>) -> Option<Violation> {
    let (pod, names, values) = setting(subject, seccomp, |kind| !is_confined(kind));
    let who = setters(pod, &names)?;
    let values = quoted(&values);
    violation("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {values}"))
}

pub fn seccomp_baseline(subject: &Subject<'_>) -> Option<Violation> {
    if subject.minor >= 19 { unconfined(subject) } else { seccomp_annotations(subject) }
}

/// Before there were fields.
fn seccomp_annotations(subject: &Subject<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let keys = subject.containers().map(|container| format!("{CONTAINER}{}", name(container)));
    let bad = |value: &str| !matches!(value, "runtime/default" | "docker/default") && !value.starts_with("localhost/");
    let forbidden = keys.chain([POD.to_owned()]).filter_map(|key| {
        let value = subject.annotations[&key].as_str().filter(|value| bad(value))?;
        Some(format!("{key}={value:?}"))
    });
    let forbidden: Words = forbidden.collect();
    if forbidden.is_empty() {
        return None;
    }
    let list = forbidden.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let noun = plural("annotation", "annotations", forbidden.len());
    violation("seccompProfile", format!("forbidden {noun} {list}"))
}

pub fn seccomp_restricted(subject: &Subject<'_>) -> Option<Violation> {
    if subject.minor >= 25 && subject.is_windows() {
        return None;
    }
    if let Some(found) = unconfined(subject) {
        return Some(found);
    }
    let pod = seccomp(subject.spec).is_some();
    let silent = subject.those(|container| seccomp(container).is_none() && !pod);
    if silent.is_empty() {
        return None;
    }
    let who = containers(&silent);
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {who} {must}"))
}

pub fn se_linux(subject: &Subject<'_>) -> Option<Violation> {
    let options = |holder: &'_ Value, field: &str| -> String {
        holder["securityContext"]["seLinuxOptions"][field].as_str().unwrap_or_default().to_owned()
    };
    let engine = subject.minor >= 31;
    let allowed = |kind: &str| match kind {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => engine,
        _ => false,
    };
    let sets = |holder: &Value, field: &str| !options(holder, field).is_empty();
    let bad = |holder: &Value| !allowed(&options(holder, "type")) || sets(holder, "user") || sets(holder, "role");
    let who = setters(bad(subject.spec), &subject.those(bad))?;
    let holders = || subject.containers().chain([subject.spec]);
    let kinds: Words = holders().map(|holder| options(holder, "type")).filter(|kind| !allowed(kind)).collect();
    let kinds = (!kinds.is_empty()).then(|| format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    let user = holders().any(|holder| sets(holder, "user")).then(|| "user may not be set".to_owned());
    let role = holders().any(|holder| sets(holder, "role")).then(|| "role may not be set".to_owned());
    let what: Vec<String> = kinds.into_iter().chain(user).chain(role).collect();
    let what = what.join("; ");
    violation("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {what}"))
}
