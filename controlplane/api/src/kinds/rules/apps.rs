//! Workloads: the `apps` group and the ReplicationController.
//!
//! Must not know: controllers.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{fill, pod_spec, volumes};
use crate::field::Errors;
use crate::kinds::Rules;
use crate::validation::workloads;

pub(super) struct Deployment;

impl Rules for Deployment {
    type Object = apps::Deployment;

    fn defaults(deployment: &mut apps::Deployment) {
        let spec = deployment.spec.get_or_insert_default();
        pod_spec::fill_template(&mut spec.template);
        fill::value(&mut spec.replicas, 1);
        fill::value(&mut spec.revision_history_limit, 10);
        fill::value(&mut spec.progress_deadline_seconds, 600);
        let strategy = spec.strategy.get_or_insert_default();
        fill::text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            fill::value(&mut rolling.max_unavailable, fill::percent("25%"));
            fill::value(&mut rolling.max_surge, fill::percent("25%"));
        }
    }

    fn validate(object: &apps::Deployment, errors: &mut Errors) {
        workloads::deployment(object, errors);
    }

    fn validate_update(new: &apps::Deployment, old: &apps::Deployment, _subresource: &str, errors: &mut Errors) {
        workloads::deployment_update(new, old, errors);
    }
}

pub(super) struct ReplicaSet;

impl Rules for ReplicaSet {
    type Object = apps::ReplicaSet;

    fn defaults(set: &mut apps::ReplicaSet) {
        let spec = set.spec.get_or_insert_default();
        pod_spec::fill_template(spec.template.get_or_insert_default());
        fill::value(&mut spec.replicas, 1);
        fill::value(&mut spec.min_ready_seconds, 0);
    }

    fn validate(object: &apps::ReplicaSet, errors: &mut Errors) {
        workloads::replica_set(object, errors);
    }

    fn validate_update(new: &apps::ReplicaSet, old: &apps::ReplicaSet, _subresource: &str, errors: &mut Errors) {
        workloads::replica_set_update(new, old, errors);
    }
}

pub(super) struct StatefulSet;

impl Rules for StatefulSet {
    type Object = apps::StatefulSet;

    fn defaults(set: &mut apps::StatefulSet) {
        let spec = set.spec.get_or_insert_default();
        pod_spec::fill_template(&mut spec.template);
        for claim in fill::each(&mut spec.volume_claim_templates) {
            fill_claim(claim);
        }
        fill::text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.as_deref().unwrap_or_default().is_empty() {
            fill::text(&mut strategy.type_, "RollingUpdate");
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_.as_deref() == Some("RollingUpdate")
            && let Some(rolling) = &mut strategy.rolling_update
        {
            fill::value(&mut rolling.partition, 0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        fill::text(&mut retention.when_deleted, "Retain");
        fill::text(&mut retention.when_scaled, "Retain");
        fill::value(&mut spec.replicas, 1);
        fill::value(&mut spec.revision_history_limit, 10);
    }

    fn validate(object: &apps::StatefulSet, errors: &mut Errors) {
        workloads::stateful_set(object, errors);
    }

    fn validate_update(new: &apps::StatefulSet, old: &apps::StatefulSet, _subresource: &str, errors: &mut Errors) {
        workloads::stateful_set_update(new, old, errors);
    }
}

/// A claim template is a claim without a life of its own, defaulted as one.
fn fill_claim(claim: &mut core::PersistentVolumeClaim) {
    volumes::fill_claim(claim.spec.get_or_insert_default());
    fill::text(&mut claim.status.get_or_insert_default().phase, "Pending");
}

/// Upstream keeps the template's own generation here since the field itself is gone from `v1`.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) struct DaemonSet;

impl Rules for DaemonSet {
    type Object = apps::DaemonSet;

    fn defaults(set: &mut apps::DaemonSet) {
        let spec = set.spec.get_or_insert_default();
        pod_spec::fill_template(&mut spec.template);
        fill::value(&mut spec.revision_history_limit, 10);
        let strategy = spec.update_strategy.get_or_insert_default();
        fill::text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            fill::value(&mut rolling.max_unavailable, fill::int(1));
            fill::value(&mut rolling.max_surge, fill::int(0));
        }
    }

    fn prepare_create(set: &mut apps::DaemonSet) {
        if template_generation(&set.metadata) < 1 {
            set_template_generation(&mut set.metadata, 1);
        }
    }

    fn prepare_update(new: &mut apps::DaemonSet, old: &apps::DaemonSet, _subresource: &str) {
        let template = |set: &apps::DaemonSet| set.spec.as_ref().map(|spec| spec.template.clone());
        let changed = template(new) != template(old);
        set_template_generation(&mut new.metadata, template_generation(&old.metadata) + i64::from(changed));
    }

    fn validate(object: &apps::DaemonSet, errors: &mut Errors) {
        workloads::daemon_set(object, errors);
    }

    fn validate_update(new: &apps::DaemonSet, old: &apps::DaemonSet, _subresource: &str, errors: &mut Errors) {
        workloads::daemon_set_update(new, old, errors);
    }
}

fn template_generation(metadata: &ObjectMeta) -> i64 {
    let annotation = metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE_GENERATION));
    annotation.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(metadata: &mut ObjectMeta, generation: i64) {
    metadata.annotations.get_or_insert_default().insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

pub(super) struct ReplicationController;

impl Rules for ReplicationController {
    type Object = core::ReplicationController;

    fn defaults(controller: &mut core::ReplicationController) {
        let spec = controller.spec.get_or_insert_default();
        fill::value(&mut spec.replicas, 1);
        fill::value(&mut spec.min_ready_seconds, 0);
        let Some(template) = &mut spec.template else { return };
        pod_spec::fill_template(template);
        let Some(labels) = template.metadata.as_ref().and_then(|m| m.labels.clone()) else { return };
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if controller.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
            controller.metadata.labels = Some(labels);
        }
    }

    fn validate(object: &core::ReplicationController, errors: &mut Errors) {
        workloads::replication_controller(object, errors);
    }
}
