//! Pods and pod templates (`pkg/apis/core/validation`, `ValidatePodSpec`).
//!
//! Must not know: who makes the pod.

mod affinity;
mod containers;
mod env;
mod probes;
mod resize;
mod update;
mod volumes;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;

pub(crate) use probes::port as target_port;
pub(crate) use resize::pod_resize;
pub(crate) use update::pod_update;

use super::{invalid, invalid_number, meta, names, one_of, resources, text};
use crate::field::{Error, Errors, Path};

/// A pod, on create and as an update leaves it.
pub(crate) fn pod(pod: &core::Pod, errors: &mut Errors) {
    match &pod.spec {
        Some(spec) => self::spec(spec, true, &Path::new("spec"), errors),
        None => errors.push(Error::required(&Path::new("spec").child("containers"), "")),
    }
}

/// What pods are made from.
pub(crate) fn template(template: &core::PodTemplateSpec, path: &Path, errors: &mut Errors) {
    if let Some(metadata) = &template.metadata {
        let at = path.child("metadata");
        let labels = metadata.labels.iter().flatten();
        meta::labels(labels.map(|(k, v)| (k.as_str(), v.as_str())), &at.child("labels"), errors);
        let annotations = metadata.annotations.iter().flatten();
        let annotations = annotations.map(|(k, v)| (k.as_str(), v.as_str()));
        meta::annotations(annotations, &at.child("annotations"), errors);
    }
    let at = path.child("spec");
    let Some(spec) = &template.spec else {
        errors.push(Error::required(&at.child("containers"), ""));
        return;
    };
    self::spec(spec, false, &at, errors);
    if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&at.child("ephemeralContainers"), detail));
    }
}

fn spec(spec: &core::PodSpec, is_pod: bool, path: &Path, errors: &mut Errors) {
    let volumes = volumes::all(spec.volumes.as_deref().unwrap_or_default(), &path.child("volumes"), errors);
    containers::main(spec, &volumes, path, errors);
    containers::init(spec, &volumes, path, errors);
    containers::ephemeral(spec, &volumes, path, errors);
    if let Some(pod) = &spec.resources {
        resources::requirements(pod, &path.child("resources"), errors);
    }
    if spec.host_network == Some(true) {
        containers::host_ports_match(&spec.containers, is_pod, &path.child("containers"), errors);
    }
    policies(spec, path, errors);
    own_users(spec, path, errors);
    referenced_names(spec, path, errors);
    if let Some(context) = &spec.security_context {
        security_context(context, spec, &path.child("securityContext"), errors);
    }
    scheduling(spec, path, errors);
    if let Some(seconds) = spec.active_deadline_seconds {
        let at = path.child("activeDeadlineSeconds");
        invalid_number(names::in_range(seconds, 1, i64::from(i32::MAX)), seconds, &at, errors);
    }
}

/// A pod with users of its own shares no other namespace with the host, nor devices.
fn own_users(spec: &core::PodSpec, path: &Path, errors: &mut Errors) {
    const WHY: &str = "when `hostUsers` is false";
    if spec.host_users != Some(false) {
        return;
    }
    // the names as upstream has them
    let shared = [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)];
    for (name, _) in shared.iter().filter(|(_, shared)| *shared == Some(true)) {
        errors.push(Error::forbidden(&path.child(name), WHY));
    }
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (list, containers) in [("initContainers", init), ("containers", &spec.containers)] {
        let with_devices =
            |one: &core::Container| one.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty());
        for (i, _) in containers.iter().enumerate().filter(|(_, one)| with_devices(one)) {
            errors.push(Error::forbidden(&path.child(list).index(i).child("volumeDevices"), WHY));
        }
    }
}

fn policies(spec: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let restart = ["Always", "OnFailure", "Never"];
    one_of(text(&spec.restart_policy), &restart, &path.child("restartPolicy"), errors);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(text(&spec.dns_policy), &dns, &path.child("dnsPolicy"), errors);
    if let Some(policy) = &spec.preemption_policy {
        one_of(policy, &["PreemptLowerPriority", "Never"], &path.child("preemptionPolicy"), errors);
    }
    let at = path.child("dnsConfig").child("nameservers");
    let servers = spec.dns_config.as_ref().and_then(|config| config.nameservers.as_deref()).unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(Error::required(&at, detail));
    }
    for (i, server) in servers.iter().enumerate() {
        invalid(names::ip(server), server, &at.index(i), errors);
    }
}

fn referenced_names(spec: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let subdomains = [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ];
    for (field, name) in subdomains.into_iter().filter(|(_, name)| !text(name).is_empty()) {
        invalid(names::dns1123_subdomain(text(name)), text(name), &path.child(field), errors);
    }
    let labels = [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)];
    for (field, name) in labels.into_iter().filter(|(_, name)| !text(name).is_empty()) {
        invalid(names::dns1123_label(text(name)), text(name), &path.child(field), errors);
    }
}

fn security_context(context: &core::PodSecurityContext, spec: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let ids = [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    for (field, id) in ids {
        if let Some(id) = id {
            invalid_number(names::user_id(id), id, &path.child(field), errors);
        }
    }
    for (i, id) in context.supplemental_groups.iter().flatten().enumerate() {
        invalid_number(names::user_id(*id), *id, &path.child("supplementalGroups").index(i), errors);
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    if let Some(policy) = &context.fs_group_change_policy {
        one_of(policy, &["Always", "OnRootMismatch"], &path.child("fsGroupChangePolicy"), errors);
    }
    if let Some(policy) = &context.supplemental_groups_policy {
        one_of(policy, &["Merge", "Strict"], &path.child("supplementalGroupsPolicy"), errors);
    }
    // the other is of the feature gate SELinuxMount, which is off in 1.36
    if let Some(policy) = &context.se_linux_change_policy {
        one_of(policy, &["Recursive"], &path.child("seLinuxChangePolicy"), errors);
    }
    sysctls(context.sysctls.as_deref().unwrap_or_default(), spec, &path.child("sysctls"), errors);
}

/// Upstream's pattern of a sysctl's name, as messages show it.
const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const LONGEST_SYSCTL: usize = 253;

fn sysctls(sysctls: &[core::Sysctl], spec: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let (name, at) = (sysctl.name.as_str(), path.index(i).child("name"));
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if !is_sysctl(name) {
            let detail = format!("must have at most {LONGEST_SYSCTL} characters and match regex {SYSCTL}");
            errors.push(Error::invalid(&at, name, detail));
        } else if !seen.insert(name) {
            errors.push(Error::duplicate(&at, name));
        }
        let dotted = name.replace('/', ".");
        let of_ipc = dotted.starts_with("kernel.shm") || dotted.starts_with("kernel.msg") || dotted == "kernel.sem";
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.push(Error::invalid(&at, name, "may not be specified when 'hostNetwork' is true"));
        }
        if spec.host_ipc == Some(true) && (of_ipc || dotted.starts_with("fs.mqueue.")) {
            errors.push(Error::invalid(&at, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

/// [`SYSCTL`]: words of lower-case letters, digits, `-` and `_` that begin and end well, joined by dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let word = |word: &str| {
        word.starts_with(good) && word.ends_with(good) && word.chars().all(|c| good(c) || matches!(c, '-' | '_'))
    };
    name.len() <= LONGEST_SYSCTL && name.split(['.', '/']).all(word)
}

fn scheduling(spec: &core::PodSpec, path: &Path, errors: &mut Errors) {
    let selector = spec.node_selector.iter().flatten();
    meta::labels(selector.map(|(k, v)| (k.as_str(), v.as_str())), &path.child("nodeSelector"), errors);
    for (i, toleration) in spec.tolerations.iter().flatten().enumerate() {
        self::toleration(toleration, &path.child("tolerations").index(i), errors);
    }
    if let Some(affinity) = &spec.affinity {
        affinity::affinity(affinity, &path.child("affinity"), errors);
    }
    let mut gates = Vec::new();
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = path.child("schedulingGates").index(i);
        invalid(names::qualified_name(&gate.name), &gate.name, &at, errors);
        if gates.contains(&&gate.name) {
            errors.push(Error::duplicate(&at, gate.name.as_str()));
        }
        gates.push(&gate.name);
    }
    for (i, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        spread(constraint, &path.child("topologySpreadConstraints").index(i), errors);
    }
}

fn toleration(toleration: &core::Toleration, path: &Path, errors: &mut Errors) {
    let (key, value) = (text(&toleration.key), text(&toleration.value));
    let (operator, effect) = (text(&toleration.operator), text(&toleration.effect));
    let at = path.child("operator");
    if !key.is_empty() {
        invalid(names::qualified_name(key), key, &path.child("key"), errors);
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(Error::invalid(&at, operator, detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&path.child("effect"), effect, detail));
    }
    match operator {
        "" | "Equal" => {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                errors.push(Error::invalid(&at, value, problems.join(";")));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => errors.push(Error::invalid(&at, value, "value must be empty when `operator` is 'Exists'")),
        other => errors.push(Error::not_supported(&at, other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        one_of(effect, TAINT_EFFECTS, &path.child("effect"), errors);
    }
}

pub(crate) const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn spread(constraint: &core::TopologySpreadConstraint, path: &Path, errors: &mut Errors) {
    if constraint.max_skew <= 0 {
        errors.push(Error::invalid(&path.child("maxSkew"), constraint.max_skew, "must be greater than zero"));
    }
    let at = path.child("topologyKey");
    if constraint.topology_key.is_empty() {
        errors.push(Error::required(&at, "can not be empty"));
    } else {
        invalid(names::qualified_name(&constraint.topology_key), &constraint.topology_key, &at, errors);
    }
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    let action = constraint.when_unsatisfiable.as_str();
    if !actions.contains(&action) {
        errors.push(Error::not_supported(&path.child("whenUnsatisfiable"), action, &actions));
    }
    if let Some(selector) = &constraint.label_selector {
        super::selectors::label_selector(selector, &path.child("labelSelector"), errors);
    }
}
