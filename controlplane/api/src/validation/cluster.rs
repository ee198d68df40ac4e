//! Nodes, volumes, quotas, ranges of limits, roles and bindings.
//!
//! Must not know: pods.

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::rbac::v1 as rbac;

use super::pod::TAINT_EFFECTS;
use super::{core, invalid, names, one_of, required, resources, shown, text};
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;

pub(crate) fn node(node: &api::Node, errors: &mut Errors) {
    let Some(spec) = &node.spec else { return };
    // upstream names the metadata here
    let at = Path::new("metadata").child("taints");
    let mut seen = Vec::new();
    for (i, taint) in spec.taints.iter().flatten().enumerate() {
        let item = at.index(i);
        invalid(names::qualified_name(&taint.key), &taint.key, &item.child("key"), errors);
        let problems = names::label_value(text(&taint.value));
        if !problems.is_empty() {
            errors.push(Error::invalid(&item.child("value"), text(&taint.value), problems.join(";")));
        }
        one_of(&taint.effect, TAINT_EFFECTS, &item.child("effect"), errors);
        if seen.contains(&(&taint.key, &taint.effect)) {
            errors.push(Error::duplicate(&item, shown(taint)));
        }
        seen.push((&taint.key, &taint.effect));
    }
    let at = Path::new("spec").child("podCIDRs");
    for (i, cidr) in spec.pod_cidrs.iter().flatten().enumerate() {
        invalid(names::cidr(cidr), cidr, &at.index(i), errors);
    }
}

/// A node's addresses for pods and its identity at a provider are given once.
pub(crate) fn node_update(new: &api::Node, old: &api::Node, errors: &mut Errors) {
    let (Some(new), Some(old), path) = (&new.spec, &old.spec, Path::new("spec")) else { return };
    let had_cidrs = old.pod_cidrs.as_ref().is_some_and(|cidrs| !cidrs.is_empty());
    let had_provider = !text(&old.provider_id).is_empty();
    let changes = [
        ("podCIDRs", "podCIDR", had_cidrs && new.pod_cidrs != old.pod_cidrs),
        ("providerID", "providerID", had_provider && new.provider_id != old.provider_id),
    ];
    for (field, words, _) in changes.into_iter().filter(|(_, _, changed)| *changed) {
        let detail = format!("node updates may not change {words} except from \"\" to valid");
        errors.push(Error::forbidden(&path.child(field), detail));
    }
}

pub(crate) fn persistent_volume(volume: &api::PersistentVolume, errors: &mut Errors) {
    let (Some(spec), path) = (&volume.spec, Path::new("spec")) else { return };
    core::access_modes(&spec.access_modes, &path.child("accessModes"), errors);
    let at = path.child("capacity");
    match spec.capacity.as_ref().filter(|capacity| !capacity.is_empty()) {
        None => errors.push(Error::required(&at, "")),
        Some(capacity) if capacity.len() != 1 || !capacity.contains_key("storage") => {
            errors.push(Error::not_supported(&at, shown(capacity), &["storage"]));
        }
        Some(capacity) => {
            for (name, written) in capacity {
                resources::amount(name, written, &at.key(name), errors);
                if Quantity::try_from(written).is_ok_and(|quantity| quantity.is_zero()) {
                    errors.push(Error::invalid(&at.key(name), "0", "must be greater than zero"));
                }
            }
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = text(&spec.persistent_volume_reclaim_policy);
    one_of(policy, &policies, &path.child("persistentVolumeReclaimPolicy"), errors);
    if let Some(mode) = &spec.volume_mode {
        one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    }
    if let Some(local) = &spec.local {
        required(&local.path, &path.child("local").child("path"), errors);
        if spec.node_affinity.is_none() {
            errors.push(Error::required(
                &Path::new("metadata").child("annotations"),
                "Local volume requires node affinity",
            ));
        }
    }
    if let Some(host) = &spec.host_path {
        required(&host.path, &path.child("hostPath").child("path"), errors);
    }
}

pub(crate) fn resource_quota(quota: &api::ResourceQuota, errors: &mut Errors) {
    let (Some(spec), path) = (&quota.spec, Path::new("spec")) else { return };
    if let Some(hard) = &spec.hard {
        resources::list(hard, &path.child("hard"), resources::any_resource, errors);
    }
    let scopes = ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];
    let supported: Vec<&str> = scopes.into_iter().chain(["PriorityClass", "VolumeAttributesClass"]).collect();
    for scope in spec.scopes.iter().flatten().filter(|scope| !supported.contains(&scope.as_str())) {
        errors.push(Error::invalid(&path.child("scopes"), shown(&spec.scopes), format!("unsupported scope {scope}")));
    }
}

pub(crate) fn limit_range(range: &api::LimitRange, errors: &mut Errors) {
    let path = Path::new("spec").child("limits");
    let mut types: Vec<&str> = Vec::new();
    for (i, item) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
        let at = path.index(i);
        required(&item.type_, &at.child("type"), errors);
        if types.contains(&item.type_.as_str()) {
            errors.push(Error::duplicate(&at.child("type"), item.type_.as_str()));
        }
        types.push(&item.type_);
        let lists = [
            ("max", &item.max),
            ("min", &item.min),
            ("default", &item.default),
            ("defaultRequest", &item.default_request),
        ];
        for (field, list) in lists {
            if let Some(list) = list {
                resources::list(list, &at.child(field), resources::any_resource, errors);
            }
        }
        ordered(item, &at, errors);
    }
}

/// min ≤ default request ≤ default ≤ max.
fn ordered(item: &api::LimitRangeItem, path: &Path, errors: &mut Errors) {
    let steps = [
        (("min", &item.min), ("max", &item.max), "min value {low} is greater than max value {high}"),
        (
            ("defaultRequest", &item.default_request),
            ("default", &item.default),
            "default request value {low} is greater than default limit value {high}",
        ),
        (("default", &item.default), ("max", &item.max), "default value {low} is greater than max value {high}"),
    ];
    for ((field, lower), (_, upper), words) in steps {
        for (name, low) in lower.iter().flatten() {
            let Some(high) = upper.as_ref().and_then(|upper| upper.get(name)) else { continue };
            let (Ok(low), Ok(high)) = (Quantity::try_from(low), Quantity::try_from(high)) else { continue };
            if low > high {
                let detail = words.replace("{low}", &low.to_string()).replace("{high}", &high.to_string());
                errors.push(Error::invalid(&path.child(field).key(name), low.to_string(), detail));
            }
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

pub(crate) fn policy_rules(rules: &[rbac::PolicyRule], namespaced: bool, errors: &mut Errors) {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    for (i, rule) in rules.iter().enumerate() {
        let path = Path::new("rules").index(i);
        if rule.verbs.is_empty() {
            errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if some(&rule.non_resource_urls) {
            let about_resources = some(&rule.api_groups) || some(&rule.resources) || some(&rule.resource_names);
            let contradictions = [
                (namespaced, "namespaced rules cannot apply to non-resource URLs"),
                (about_resources, "rules cannot apply to both regular resources and non-resource URLs"),
            ];
            for (_, detail) in contradictions.into_iter().filter(|(is, _)| *is) {
                errors.push(Error::invalid(&path.child("nonResourceURLs"), shown(&rule.non_resource_urls), detail));
            }
            continue;
        }
        let needed = [("apiGroups", &rule.api_groups, "api group"), ("resources", &rule.resources, "resource")];
        for (field, _, noun) in needed.into_iter().filter(|(_, list, _)| !some(list)) {
            let detail = format!("resource rules must supply at least one {noun}");
            errors.push(Error::required(&path.child(field), detail));
        }
    }
}

pub(crate) fn binding(role: &rbac::RoleRef, subjects: &[rbac::Subject], namespaced: bool, errors: &mut Errors) {
    let path = Path::new("roleRef");
    if text(&role.api_group) != RBAC {
        errors.push(Error::not_supported(&path.child("apiGroup"), text(&role.api_group), &[RBAC]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(Error::not_supported(&path.child("kind"), role.kind.as_str(), kinds));
    }
    required(&role.name, &path.child("name"), errors);
    invalid(names::path_segment(&role.name), &role.name, &path.child("name"), errors);
    for (i, subject) in subjects.iter().enumerate() {
        self::subject(subject, namespaced, &Path::new("subjects").index(i), errors);
    }
}

fn subject(subject: &rbac::Subject, namespaced: bool, path: &Path, errors: &mut Errors) {
    required(&subject.name, &path.child("name"), errors);
    let (group, at) = (text(&subject.api_group), path.child("apiGroup"));
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                invalid(names::dns1123_subdomain(&subject.name), &subject.name, &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&at, group, &[""]));
            }
            if !namespaced {
                required(text(&subject.namespace), &path.child("namespace"), errors);
            }
        }
        "User" | "Group" if group == RBAC => {}
        "User" | "Group" => errors.push(Error::not_supported(&at, group, &[RBAC])),
        other => errors.push(Error::not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"])),
    }
}

pub(crate) fn binding_update(new: &rbac::RoleRef, old: &rbac::RoleRef, errors: &mut Errors) {
    if new != old {
        errors.push(Error::invalid(&Path::new("roleRef"), shown(new), "cannot change roleRef"));
    }
}
