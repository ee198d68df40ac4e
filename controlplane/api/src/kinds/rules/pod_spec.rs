//! Defaults of pod specs: of pods, and of every template that makes pods
//! (`SetObjectDefaults_Pod` without what only pods get).
//!
//! Must not know: which kind the spec stands in.

use k8s_openapi::api::core::v1 as core;

use super::{fill, volumes};

/// What containers and ephemeral containers have in common; the types differ, the fields do not.
macro_rules! fill_container {
    ($container:expr) => {{
        let container = $container;
        fill::text(&mut container.image_pull_policy, pull_policy(container.image.as_deref().unwrap_or_default()));
        fill::text(&mut container.termination_message_path, "/dev/termination-log");
        fill::text(&mut container.termination_message_policy, "File");
        for port in fill::each(&mut container.ports) {
            fill::text(&mut port.protocol, "TCP");
        }
        for variable in fill::each(&mut container.env) {
            fill_variable(variable);
        }
        fill_requirements(&mut container.resources);
        for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe] {
            probe.iter_mut().for_each(fill_probe);
        }
        if let Some(lifecycle) = &mut container.lifecycle {
            for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
                handler.http_get.iter_mut().for_each(fill_http_get);
            }
        }
    }};
}

/// A pod template's spec, made where absent.
pub(super) fn fill_template(template: &mut core::PodTemplateSpec) {
    fill_spec(template.spec.get_or_insert_default());
}

pub(super) fn fill_spec(spec: &mut core::PodSpec) {
    fill::text(&mut spec.dns_policy, "ClusterFirst");
    fill::text(&mut spec.restart_policy, "Always");
    fill::value(&mut spec.security_context, core::PodSecurityContext::default());
    fill::value(&mut spec.termination_grace_period_seconds, 30);
    fill::text(&mut spec.scheduler_name, "default-scheduler");
    fill_service_account(spec);
    fill::each(&mut spec.volumes).for_each(volumes::fill);
    for container in spec.containers.iter_mut().chain(fill::each(&mut spec.init_containers)) {
        fill_container!(container);
    }
    for container in fill::each(&mut spec.ephemeral_containers) {
        fill_container!(container);
    }
    fill::resources(&mut spec.overhead);
    fill_requirements(&mut spec.resources);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always answered.
pub(super) fn fill_service_account(spec: &mut core::PodSpec) {
    if let Some(name) = spec.service_account.clone() {
        fill::text(&mut spec.service_account_name, &name);
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

fn fill_requirements(requirements: &mut Option<core::ResourceRequirements>) {
    if let Some(requirements) = requirements {
        fill::resources(&mut requirements.limits);
        fill::resources(&mut requirements.requests);
    }
}

fn fill_variable(variable: &mut core::EnvVar) {
    let Some(source) = &mut variable.value_from else { return };
    if let Some(field) = &mut source.field_ref {
        fill::text(&mut field.api_version, "v1");
    }
    if let Some(file) = &mut source.file_key_ref {
        fill::value(&mut file.optional, false);
    }
}

fn fill_probe(probe: &mut core::Probe) {
    fill::number(&mut probe.timeout_seconds, 1);
    fill::number(&mut probe.period_seconds, 10);
    fill::number(&mut probe.success_threshold, 1);
    fill::number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(fill_http_get);
    if let Some(grpc) = &mut probe.grpc {
        fill::value(&mut grpc.service, String::new());
    }
}

fn fill_http_get(get: &mut core::HTTPGetAction) {
    fill::text(&mut get.path, "/");
    fill::text(&mut get.scheme, "HTTP");
}

/// `Always` for `latest` and for no tag at all, unless a digest says which image it is.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (named, digest) = image.split_once('@').map_or((image, None), |(named, digest)| (named, Some(digest)));
    let last = named.rsplit('/').next().unwrap_or_default();
    match (last.split_once(':'), digest) {
        _ if image.is_empty() => "IfNotPresent",
        (Some((_, "latest")), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}
