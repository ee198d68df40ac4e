//! Containers: main, init and ephemeral.
//!
//! Must not know: images' contents.

use k8s_openapi::api::core::v1 as core;

use super::super::{invalid, invalid_number, names, one_of, required, resources, shown, text};
use super::{env, probes, volumes};
use crate::field::{Error, Errors, Path};

pub(super) fn main(spec: &core::PodSpec, volumes: &[&core::Volume], path: &Path, errors: &mut Errors) {
    let at = path.child("containers");
    if spec.containers.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let at = at.index(i);
        common(container, volumes, &at, errors);
        unique(&container.name, &mut names, &at.child("name"), errors);
        probes::of_container(container, &at, errors);
    }
    host_port_conflicts(&spec.containers, &at, errors);
}

pub(super) fn init(spec: &core::PodSpec, volumes: &[&core::Volume], path: &Path, errors: &mut Errors) {
    let mut names: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        let at = path.child("initContainers").index(i);
        common(container, volumes, &at, errors);
        if let Some(policy) = &container.restart_policy {
            one_of(policy, &["Always", "Never", "OnFailure"], &at.child("restartPolicy"), errors);
        }
        unique(&container.name, &mut names, &at.child("name"), errors);
        if container.restart_policy.as_deref() == Some("Always") {
            probes::of_container(container, &at, errors);
        } else {
            probes::forbidden(container, &at, errors);
        }
    }
}

pub(super) fn ephemeral(spec: &core::PodSpec, volumes: &[&core::Volume], path: &Path, errors: &mut Errors) {
    let others = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut names: Vec<&str> = others.map(|c| c.name.as_str()).collect();
    for (i, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let at = path.child("ephemeralContainers").index(i);
        common(&as_container(container), volumes, &at, errors);
        unique(&container.name, &mut names, &at.child("name"), errors);
        let target = text(&container.target_container_name);
        if !target.is_empty() && !spec.containers.iter().any(|c| c.name == target) {
            errors.push(Error::not_found(&at.child("targetContainerName"), target));
        }
        let set = [
            ("ports", container.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
            ("resources", container.resources.as_ref().is_some_and(|r| *r != core::ResourceRequirements::default())),
        ];
        for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            errors.push(Error::forbidden(&at.child(field), "cannot be set for an Ephemeral Container"));
        }
    }
}

/// What an ephemeral container shares with others, as one of them.
fn as_container(it: &core::EphemeralContainer) -> core::Container {
    core::Container {
        name: it.name.clone(),
        image: it.image.clone(),
        image_pull_policy: it.image_pull_policy.clone(),
        termination_message_policy: it.termination_message_policy.clone(),
        env: it.env.clone(),
        env_from: it.env_from.clone(),
        volume_mounts: it.volume_mounts.clone(),
        volume_devices: it.volume_devices.clone(),
        security_context: it.security_context.clone(),
        ..core::Container::default()
    }
}

fn unique<'a>(name: &'a str, seen: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    if !name.is_empty() && seen.contains(&name) {
        errors.push(Error::duplicate(path, name));
    }
    seen.push(name);
}

fn common(container: &core::Container, volumes: &[&core::Volume], path: &Path, errors: &mut Errors) {
    let at = path.child("name");
    required(&container.name, &at, errors);
    if !container.name.is_empty() {
        invalid(names::dns1123_label(&container.name), &container.name, &at, errors);
    }
    image(text(&container.image), &path.child("image"), errors);
    let policy = text(&container.termination_message_policy);
    one_of(policy, &["File", "FallbackToLogsOnError"], &path.child("terminationMessagePolicy"), errors);
    ports(container.ports.as_deref().unwrap_or_default(), &path.child("ports"), errors);
    env::variables(container.env.as_deref().unwrap_or_default(), &path.child("env"), errors);
    env::sources(container.env_from.as_deref().unwrap_or_default(), &path.child("envFrom"), errors);
    volumes::mounts(container, volumes, path, errors);
    let pull = ["Always", "IfNotPresent", "Never"];
    one_of(text(&container.image_pull_policy), &pull, &path.child("imagePullPolicy"), errors);
    if let Some(requirements) = &container.resources {
        resources::requirements(requirements, &path.child("resources"), errors);
    }
    if let Some(context) = &container.security_context {
        security_context(context, &path.child("securityContext"), errors);
    }
}

fn image(image: &str, path: &Path, errors: &mut Errors) {
    if image.is_empty() {
        errors.push(Error::required(path, ""));
    } else if image.trim() != image {
        errors.push(Error::invalid(path, image, "must not have leading or trailing whitespace"));
    }
}

fn ports(ports: &[core::ContainerPort], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            let problems = names::port_name(name);
            if problems.is_empty() {
                unique(name, &mut seen, &at.child("name"), errors);
            }
            invalid(problems, name, &at.child("name"), errors);
        }
        if port.container_port == 0 {
            errors.push(Error::required(&at.child("containerPort"), ""));
        } else {
            port_number(port.container_port, &at.child("containerPort"), errors);
        }
        if let Some(host) = port.host_port.filter(|host| *host != 0) {
            port_number(host, &at.child("hostPort"), errors);
        }
        one_of(text(&port.protocol), &["SCTP", "TCP", "UDP"], &at.child("protocol"), errors);
    }
}

fn port_number(port: i32, path: &Path, errors: &mut Errors) {
    invalid_number(names::port_number(i64::from(port)), i64::from(port), path, errors);
}

fn host_port_conflicts(containers: &[core::Container], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|host| *host != 0) else { continue };
            let key = format!("{}/{}/{host}", text(&port.protocol), text(&port.host_ip));
            if seen.contains(&key) {
                let at = path.index(i).child("ports").index(j).child("hostPort");
                errors.push(Error::duplicate(&at, key.as_str()));
            }
            seen.push(key);
        }
    }
}

/// On the host's network a port is the host's port; templates may leave that to be defaulted.
pub(super) fn host_ports_match(containers: &[core::Container], is_pod: bool, path: &Path, errors: &mut Errors) {
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (is_pod || host != 0) && host != port.container_port {
                let at = path.index(i).child("ports").index(j).child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&at, host, detail));
            }
        }
    }
}

fn security_context(context: &core::SecurityContext, path: &Path, errors: &mut Errors) {
    for (field, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        if let Some(id) = id {
            invalid_number(names::user_id(id), id, &path.child(field), errors);
        }
    }
    if let Some(mount) = &context.proc_mount {
        one_of(mount, &["Default", "Unmasked"], &path.child("procMount"), errors);
    }
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    let added = context.capabilities.as_ref().and_then(|c| c.add.as_deref()).unwrap_or_default();
    let contradictions = [
        (context.privileged == Some(true), "`privileged` to true"),
        (added.iter().any(|c| c == "CAP_SYS_ADMIN"), "`capabilities.Add` CAP_SYS_ADMIN"),
    ];
    for (_, what) in contradictions.into_iter().filter(|(is, _)| *is) {
        let detail = format!("cannot set `allowPrivilegeEscalation` to false and {what}");
        errors.push(Error::invalid(path, shown(context), detail));
    }
}
