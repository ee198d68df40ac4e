//! Pods.
//!
//! Must not know: other kinds.

use k8s_openapi::api::core::v1 as core;

use super::{fill, match_keys, pod_spec, qos};
use crate::field::Errors;
use crate::kinds::Rules;
use crate::validation::pod;

pub(super) struct Pod;

impl Rules for Pod {
    type Object = core::Pod;

    fn defaults(pod: &mut core::Pod) {
        let spec = pod.spec.get_or_insert_default();
        pod_spec::fill_spec(spec);
        for container in spec.containers.iter_mut().chain(fill::each(&mut spec.init_containers)) {
            fill_requests(container);
        }
        fill::value(&mut spec.enable_service_links, true);
        if spec.host_network == Some(true) {
            fill_host_ports(spec);
        }
    }

    fn prepare_create(pod: &mut core::Pod) {
        let spec = pod.spec.get_or_insert_default();
        pod_spec::fill_service_account(spec);
        let mut status = core::PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(qos::class(spec).to_owned()),
            ..core::PodStatus::default()
        };
        if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
            status.conditions = Some(vec![gated()]);
        }
        pod.status = Some(status);
        match_keys::resolve(pod);
    }

    fn prepare_update(new: &mut core::Pod, old: &core::Pod, subresource: &str) {
        pod_spec::fill_service_account(new.spec.get_or_insert_default());
        match subresource {
            "ephemeralcontainers" => keep_all_but_ephemeral_containers(new, old),
            "resize" => keep_all_but_resources(new, old),
            _ => {}
        }
    }

    fn validate(pod: &core::Pod, errors: &mut Errors) {
        pod::pod(pod, errors);
    }

    fn validate_update(new: &core::Pod, old: &core::Pod, subresource: &str, errors: &mut Errors) {
        match subresource {
            "" => pod::pod_update(new, old, errors),
            "resize" => pod::pod_resize(new, old, class(new) == class(old), errors),
            _ => {}
        }
    }
}

/// Requests default to limits, in pods alone: a template's limits may still be defaulted by a LimitRange.
fn fill_requests(container: &mut core::Container) {
    let Some(resources) = &mut container.resources else { return };
    if let Some(limits) = &resources.limits {
        fill::missing(&mut resources.requests, limits);
    }
}

fn fill_host_ports(spec: &mut core::PodSpec) {
    for container in spec.containers.iter_mut().chain(fill::each(&mut spec.init_containers)) {
        for port in fill::each(&mut container.ports) {
            let same = port.container_port;
            fill::number(&mut port.host_port, same);
        }
    }
}

fn gated() -> core::PodCondition {
    core::PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..core::PodCondition::default()
    }
}

fn keep_all_but_ephemeral_containers(new: &mut core::Pod, old: &core::Pod) {
    let added = new.spec.take().and_then(|spec| spec.ephemeral_containers);
    new.spec.clone_from(&old.spec);
    new.spec.get_or_insert_default().ephemeral_containers = added;
}

fn class(pod: &core::Pod) -> Option<&'static str> {
    pod.spec.as_ref().map(qos::class)
}

/// Where containers were added, removed, renamed or reordered, everything stays for validation to refuse.
fn keep_all_but_resources(new: &mut core::Pod, old: &core::Pod) {
    let (metadata, kept) = (&mut new.metadata, old.metadata.clone());
    metadata.labels = kept.labels;
    metadata.annotations = kept.annotations;
    metadata.finalizers = kept.finalizers;
    metadata.owner_references = kept.owner_references;
    let (Some(wanted), Some(mut spec)) = (new.spec.take(), old.spec.clone()) else { return };
    let names = |spec: &core::PodSpec| -> Vec<String> {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|one| one.name.clone()).collect()
    };
    if names(&wanted) != names(&spec) || wanted.containers.len() != spec.containers.len() {
        new.spec = Some(wanted);
        return;
    }
    let asked = wanted.containers.into_iter().chain(wanted.init_containers.into_iter().flatten());
    let kept = spec.containers.iter_mut().chain(fill::each(&mut spec.init_containers));
    for (container, asked) in kept.zip(asked) {
        container.resources = asked.resources;
        container.resize_policy = asked.resize_policy;
    }
    spec.resources = wanted.resources;
    new.spec = Some(spec);
}
