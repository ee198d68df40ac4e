//! Autoscalers, disruption budgets, priority and storage classes.
//!
//! Must not know: what carries them out.

use k8s_openapi::api::autoscaling::v2 as autoscaling;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::api::scheduling::v1 as scheduling;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{immutable, invalid, names, one_of, required, selectors, shown, workloads};
use crate::field::{Error, Errors, Path};

pub(crate) fn autoscaler(autoscaler: &autoscaling::HorizontalPodAutoscaler, errors: &mut Errors) {
    let (spec, path) = (&autoscaler.spec, Path::new("spec"));
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    if let Some(min) = min.filter(|min| *min < 1) {
        errors.push(Error::invalid(&path.child("minReplicas"), min, "must be greater than or equal to 1"));
    }
    let at = path.child("maxReplicas");
    if max == 0 {
        errors.push(Error::required(&at, "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(Error::invalid(&at, max, "must be greater than or equal to 1"));
    }
    if min.is_some_and(|min| max < min) {
        errors.push(Error::invalid(&at, max, "must be greater than or equal to `minReplicas`"));
    }
    metrics(spec.metrics.as_deref().unwrap_or_default(), &path.child("metrics"), errors);
    let (target, at) = (&spec.scale_target_ref, path.child("scaleTargetRef"));
    for (field, value) in [("kind", &target.kind), ("name", &target.name)] {
        required(value, &at.child(field), errors);
        if !value.is_empty() {
            invalid(names::path_segment(value), value, &at.child(field), errors);
        }
    }
}

/// The sources that a metric may name.
const METRIC_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn metrics(metrics: &[autoscaling::MetricSpec], path: &Path, errors: &mut Errors) {
    for (i, metric) in metrics.iter().enumerate() {
        let at = path.index(i);
        one_of(&metric.type_, METRIC_TYPES, &at.child("type"), errors);
        let sources = [
            ("Object", "object", metric.object.is_some()),
            ("Pods", "pods", metric.pods.is_some()),
            ("Resource", "resource", metric.resource.is_some()),
            ("ContainerResource", "containerResource", metric.container_resource.is_some()),
            ("External", "external", metric.external.is_some()),
        ];
        for (type_, field, is_set) in sources {
            if type_ == metric.type_ && !is_set {
                let detail = "must populate information for the given metric source";
                errors.push(Error::required(&at.child(field), detail));
            } else if type_ != metric.type_ && is_set {
                let detail = "must populate the given metric source only";
                errors.push(Error::forbidden(&at.child(field), detail));
            }
        }
        if let Some(resource) = &metric.resource {
            required(&resource.name, &at.child("resource").child("name"), errors);
        }
    }
}

pub(crate) fn disruption_budget(budget: &policy::PodDisruptionBudget, errors: &mut Errors) {
    let (Some(spec), path) = (&budget.spec, Path::new("spec")) else { return };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&path, shown(spec), detail));
    }
    for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
        let at = path.child(field);
        workloads::int_or_percent(value, &at, errors);
        if let Some(IntOrString::String(percent)) = value
            && percent.trim_end_matches('%').parse::<u32>().is_ok_and(|percent| percent > 100)
        {
            errors.push(Error::invalid(&at, percent.as_str(), "must not be greater than 100%"));
        }
    }
    if let Some(selector) = &spec.selector {
        selectors::label_selector(selector, &path.child("selector"), errors);
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        let supported = ["AlwaysAllow", "IfHealthyBudget"];
        one_of(policy, &supported, &path.child("unhealthyPodEvictionPolicy"), errors);
    }
}

/// Above it are the priorities of the system.
const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;
const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(crate) fn priority_class(class: &scheduling::PriorityClass, errors: &mut Errors) {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let value = class.value.unwrap_or(0);
    if name.starts_with("system-") {
        if !SYSTEM_CLASSES.contains(&(name, value)) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a \
                 known system priority class"
            );
            errors.push(Error::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.push(Error::forbidden(&Path::new("value"), detail));
    }
    if let Some(policy) = &class.preemption_policy {
        one_of(policy, &["PreemptLowerPriority", "Never"], &Path::new("preemptionPolicy"), errors);
    }
}

pub(crate) fn priority_class_update(
    new: &scheduling::PriorityClass,
    old: &scheduling::PriorityClass,
    errors: &mut Errors,
) {
    if new.value.unwrap_or(0) != old.value.unwrap_or(0) {
        errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    immutable(&new.preemption_policy, &old.preemption_policy, &Path::new("preemptionPolicy"), errors);
}

pub(crate) fn storage_class(class: &storage::StorageClass, errors: &mut Errors) {
    let at = Path::new("provisioner");
    required(&class.provisioner, &at, errors);
    if !class.provisioner.is_empty() {
        invalid(names::qualified_name(&class.provisioner.to_lowercase()), &class.provisioner, &at, errors);
    }
    if let Some(policy) = &class.reclaim_policy {
        one_of(policy, &["Delete", "Retain"], &Path::new("reclaimPolicy"), errors);
    }
    if let Some(mode) = &class.volume_binding_mode {
        one_of(mode, &["Immediate", "WaitForFirstConsumer"], &Path::new("volumeBindingMode"), errors);
    }
}

pub(crate) fn storage_class_update(new: &storage::StorageClass, old: &storage::StorageClass, errors: &mut Errors) {
    immutable(&new.parameters, &old.parameters, &Path::new("parameters"), errors);
    immutable(&new.provisioner, &old.provisioner, &Path::new("provisioner"), errors);
    immutable(&new.reclaim_policy, &old.reclaim_policy, &Path::new("reclaimPolicy"), errors);
    immutable(&new.volume_binding_mode, &old.volume_binding_mode, &Path::new("volumeBindingMode"), errors);
}
